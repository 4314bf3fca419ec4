"""Writes that the API server refused: reported on their object, and tried again later.

A quota, an admission policy or a missing right refuses the same write again and again. Each refusal
is remembered until the write succeeds, so that it is reported once, tried with growing pauses, and
not taken for done meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from tryitnow.api.meta import Key, Resource
from tryitnow.backoff import Backoff, Pauses
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import NotFoundError, RefusedError
from tryitnow.kubernetes.objects import AnyObject

logger = logging.getLogger(__name__)

PAUSES = Pauses(first=timedelta(seconds=5), last=timedelta(minutes=5))
"""As between failed builds: a person has to raise the quota or to change the policy."""


class Attempt(StrEnum):
    """The kind of the refused write: reason of a condition and of an Event."""

    CREATE_REVISION = "CannotCreateCheckpointRevision"
    DELETE_REVISION = "CannotDeleteCheckpointRevision"
    REVISION_STATUS = "CannotWriteRevisionStatus"
    CREATE = "CannotCreateNodeCheckpoint"
    UPDATE = "CannotUpdateNodeCheckpoint"
    DELETE = "CannotDeleteNodeCheckpoint"
    STATUS = "CannotWriteStatus"
    EXPIRE = "CannotDeleteExpired"
    END_LOST = "CannotDeleteLost"
    RELEASE = "CannotRemoveFinalizer"


@dataclass(frozen=True)
class Refusal:
    """A write that the API server refused."""

    attempt: Attempt
    message: str
    """The write, and the answer of the API server."""

    @property
    def reason(self) -> str:
        """Reason of a condition."""
        return str(self.attempt)

    def __str__(self) -> str:
        ahead = "The controller tries again with growing pauses."
        return f"The API server refused: {self.message}. {ahead}"


_Write = tuple[Attempt, str]
"""The kind of the write, and the name of its object."""


class Refusals:
    """The current refusals, by the UID of the object whose status reports them."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff(PAUSES)
        self._standing: dict[str, dict[_Write, Refusal]] = {}

    def refused(self, uid: str, attempt: Attempt, name: str, error: Exception) -> bool:
        """Take note of a refusal; returns whether it is the first of its kind."""
        standing = self._standing.setdefault(uid, {})
        is_first = all(known is not attempt for known, _ in standing)
        standing[attempt, name] = Refusal(attempt, str(error))
        self._backoff.failed(_id(uid, attempt, name))
        return is_first

    def succeeded(self, uid: str, attempt: Attempt, name: str) -> None:
        """Forget a refusal: the API server took it by now."""
        if self._standing.get(uid, {}).pop((attempt, name), None) is not None:
            self._backoff.forget(_id(uid, attempt, name))

    def may_try(self, uid: str, attempt: Attempt, name: str) -> bool:
        """Whether the pause after the last refusal is over, or there was none."""
        return self._backoff.remaining(_id(uid, attempt, name)) is None

    def paused(self, uid: str) -> dict[Attempt, Refusal]:
        """Return the refusals whose pause is not over, one of each kind."""
        return {
            attempt: refusal
            for (attempt, name), refusal in self._standing.get(uid, {}).items()
            if not self.may_try(uid, attempt, name)
        }

    def next_try(self, uid: str) -> timedelta | None:
        """Return when the next pause of an object ends; None where it has none."""
        pauses = (
            self._backoff.remaining(_id(uid, *write)) for write in self._standing.get(uid, ())
        )
        return min((pause for pause in pauses if pause is not None), default=None)

    def changed(self, _key: Key, before: Resource | None, after: Resource | None) -> None:
        """Forget the refusals of an object that is gone, as the store tells."""
        uid = before.metadata.uid if before is not None else ""
        if after is None or after.metadata.uid != uid:
            for write in self._standing.pop(uid, {}):
                self._backoff.forget(_id(uid, *write))


@contextmanager
def noting_refusal(
    kubernetes: KubernetesApi, refusals: Refusals, about: AnyObject, attempt: Attempt, name: str
) -> Iterator[None]:
    """Make a write in the block: a refusal is remembered, and the first of its kind is an Event.

    Args:
        kubernetes: The API server.
        refusals: The refusals that stand.
        about: The object on which a refusal is reported.
        attempt: The kind of the write.
        name: Name of the object that is written.

    Raises:
        RefusedError: the API server refused; the caller decides about the consequence.

    """
    uid = about.metadata.uid
    try:
        yield
    except RefusedError as error:
        if refusals.refused(uid, attempt, name, error):
            kubernetes.event(about, str(attempt), str(error), warning=True)
        raise
    refusals.succeeded(uid, attempt, name)


async def try_write(
    kubernetes: KubernetesApi,
    refusals: Refusals,
    about: AnyObject,
    attempt: Attempt,
    name: str,
    write: Callable[[], Awaitable[None]],
) -> None:
    """Make a write, unless it was refused a short while ago.

    A refusal is reported (``noting_refusal``). An object that is gone meanwhile is no error: its
    watch event has the work done anew.

    Args:
        kubernetes: The API server.
        refusals: The refusals that stand.
        about: The object on which a refusal is reported.
        attempt: The kind of the write.
        name: Name of the object that is written.
        write: Makes the write.

    """
    if not refusals.may_try(about.metadata.uid, attempt, name):
        return
    try:
        with noting_refusal(kubernetes, refusals, about, attempt, name):
            await write()
    except NotFoundError:
        return
    except RefusedError as error:
        logger.warning("%s: %s", about.key, error)


def _id(uid: str, attempt: Attempt, name: str) -> str:
    return f"{uid}/{attempt}/{name}"
