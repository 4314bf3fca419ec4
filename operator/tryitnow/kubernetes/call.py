"""One request to the API server: its time limit, the meaning of its failure, and its retries.

Most requests are made once: the next look at the object makes them again. ``write_with_retry`` is
for results that took long to find out. ``retry_on_conflict`` of the client is for changes beside
those of other writers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from kubernetes.aio import client as aio
from kubernetes.aio.utils.retry import Backoff, on_retry_after_error  # type: ignore[attr-defined]

from tryitnow.backoff import JITTER
from tryitnow.kubernetes.errors import (
    ConflictError,
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    RefusedError,
    TooOldError,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT_SECONDS = 15
"""For one request. The API server itself gives up on a mutating request after 34 s (etcd's
client default); nothing that we send should come near it."""

WRITE_BACKOFF = Backoff(steps=8, duration=0.5, factor=2.0, jitter=JITTER)
"""A minute of pauses in all, besides the tries, each of which may take ``TIMEOUT_SECONDS`` itself:
a new API server leads, or an overwhelmed one has recovered, in that time."""

_ANSWERS = (ConflictError, NotFoundError, RefusedError)
"""Answers that stay the same however often the request is made."""


async def call_api(what: str, call: Awaitable[T]) -> T:
    """Await a request; ``what`` it was stands in the message of its failure.

    Raises:
        NotFoundError: 404.
        ConflictError: 409.
        TooOldError: 410.
        ForbiddenError: 401 or 403.
        RefusedError: 400 or 422.
        KubernetesError: any other failure, or no answer.

    """
    try:
        return await call
    except aio.ApiException as error:
        output = _message(error.body)
        message = f"{what}: {error.status} {error.reason}: {output.message}"
        raise error_of(
            error.status, message, headers=error.headers, fields=output.fields
        ) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        msg = f"{what}: the API server does not answer: {type(error).__name__} {error}"
        raise KubernetesError(msg) from error


async def write_with_retry(write: Callable[[], Awaitable[T]]) -> T:
    """Repeat a write until the API server answers.

    For results that took long to find out: a short outage of the API server must not lose them.

    Raises:
        KubernetesError: it refused, or did not answer in all these tries.

    """

    def may_be_repeated(error: Exception) -> bool:
        if not isinstance(error, KubernetesError) or isinstance(error, _ANSWERS):
            return False
        logger.warning("%s; it will be written again", error)
        return True

    return await on_retry_after_error(WRITE_BACKOFF, may_be_repeated, write)


@dataclass(frozen=True)
class _Said:
    """A Status, which the API server sends with each failure."""

    message: str
    fields: tuple[str, ...] = ()


def _message(body: object) -> _Said:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        status: Any = json.loads(text)
    except ValueError:
        return _Said(text.strip())  # a proxy in between says it in its own way
    if not isinstance(status, dict):
        return _Said(text)
    causes = (status.get("details") or {}).get("causes") or ()
    fields = tuple(cause.get("field", "") for cause in causes)
    return _Said(str(status.get("message") or text), fields)


def error_of(
    status: int | None,
    message: str,
    *,
    headers: Mapping[str, str] | None = None,
    fields: tuple[str, ...] = (),
) -> KubernetesError:
    """Return what a status code means to the caller."""
    kind: type[KubernetesError]
    match status:
        case 404:
            kind = NotFoundError
        case 409:
            kind = ConflictError
        case 410:
            kind = TooOldError
        case 401 | 403:
            kind = ForbiddenError
        case 400 | 422:
            kind = RefusedError
        case _:
            kind = KubernetesError
    return kind(message, status=status, headers=headers, fields=fields)
