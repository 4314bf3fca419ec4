"""A demo's way from the request to ready: created, watched, judged."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import timedelta

from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Condition, find_condition, now
from tryitnow.client.errors import (
    CheckpointNotFoundError,
    ClusterUnreachableError,
    DemoError,
    DemoExpiredError,
    DemoFailedError,
    DemoGoneError,
    DemoTimeoutError,
    InvalidRequestError,
    NameTakenError,
    NotAllowedError,
    QuotaExceededError,
)
from tryitnow.client.request import DemoRequest
from tryitnow.client.running import Demo
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import (
    ConflictError,
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    RefusedError,
    TooOldError,
)

RECONNECT_SECONDS = 1.0
"""Before the next try at an API server that went away while we watched."""

Observer = Callable[[DemoInstance], None]


def unobserved(_: DemoInstance) -> None:
    """For callers who only want the end."""


@contextmanager
def told_to_callers() -> Iterator[None]:
    """Turn failures of the API into what the caller can do about them."""
    try:
        yield
    except ForbiddenError as error:
        if "exceeded quota" in str(error):
            raise QuotaExceededError(
                f"{error}; delete a demo (`kubectl get demoinstances`), or have the ResourceQuota "
                "raised"
            ) from error
        raise NotAllowedError(str(error)) from error
    except RefusedError as error:
        raise InvalidRequestError(str(error)) from error
    except ConflictError as error:
        raise NameTakenError(str(error)) from error
    except NotFoundError as error:
        raise InvalidRequestError(
            f"{error}; is the namespace right, and Try It Now installed in this cluster?"
        ) from error
    except KubernetesError as error:
        raise ClusterUnreachableError(str(error)) from error


async def create(kubernetes: KubernetesApi, namespace: str, request: DemoRequest) -> DemoInstance:
    """Create the DemoInstance.

    Raises:
        InvalidRequestError, NotAllowedError, QuotaExceededError, NameTakenError: refused.
        ClusterUnreachableError: the API server does not answer.

    """
    with told_to_callers():
        # An older CRD that does not know a field must not drop it in silence.
        return await kubernetes.create(DemoInstance, request.body(namespace), refuse_unknown=True)


async def wait_ready(
    kubernetes: KubernetesApi,
    instance: DemoInstance,
    within: timedelta,
    observer: Observer = unobserved,
) -> Demo:
    """Watch a demo until it is ready.

    Raises:
        CheckpointNotFoundError, DemoFailedError, DemoGoneError: it will not be.
        DemoTimeoutError: not within that time.

    """
    last = _Last(instance, observer)
    try:
        async with asyncio.timeout(within.total_seconds()):
            return await _watch(kubernetes, last, within)
    except TimeoutError as error:
        raise _timeout(last.instance, within, last.failure) from error


class _Last:
    """What was last seen of a demo, and what went wrong meanwhile."""

    def __init__(self, instance: DemoInstance, observer: Observer) -> None:
        self.instance = instance
        self.failure: KubernetesError | None = None
        self._observer = observer

    def take(self, instance: DemoInstance) -> Demo | None:
        self.instance = instance
        self.failure = None
        self._observer(instance)
        return judge(instance)


async def _watch(kubernetes: KubernetesApi, last: _Last, within: timedelta) -> Demo:
    seconds = math.ceil(within.total_seconds())
    while True:
        seen = last.instance
        try:
            changes = kubernetes.watch(
                DemoInstance, seen.key, seen.metadata.resource_version, seconds
            )
            async with aclosing(changes):
                async for is_there, instance in changes:
                    if not is_there:
                        raise gone(instance)
                    if demo := last.take(instance):
                        return demo
            if demo := last.take(await kubernetes.get(DemoInstance, seen.key)):
                return demo
        except TooOldError:
            with told_to_callers():
                instance = await kubernetes.get(DemoInstance, seen.key)
            if demo := last.take(instance):
                return demo
        except NotFoundError as error:
            raise gone(seen) from error
        except RefusedError:
            with told_to_callers():
                raise
        except KubernetesError as error:
            # A control plane that is being upgraded comes back; the caller's limit ends it else.
            last.failure = error
            await asyncio.sleep(RECONNECT_SECONDS)


def judge(instance: DemoInstance) -> Demo | None:
    """Return the demo when it is ready, None while it may become so.

    Raises:
        CheckpointNotFoundError, DemoFailedError, DemoGoneError: it will not.

    """
    if instance.is_deleting:
        raise gone(instance)
    ready = _condition(instance, "Ready")
    stalled = _condition(instance, "Stalled")
    if ready and ready.status == "True" and instance.status.url:
        return Demo(instance, instance.status.url)
    for found in (ready, stalled):
        if found and found.reason == "CheckpointNotFound":
            raise CheckpointNotFoundError(f"{instance.key}: {found.message}")
    if stalled and stalled.status == "True":
        msg = f"{instance.key}: {stalled.reason}: {stalled.message}"
        raise DemoFailedError(msg, stalled.reason)
    return None


def gone(instance: DemoInstance) -> DemoError:
    """Return why a demo is no longer there."""
    expires_at = instance.expires_at()
    if expires_at is not None and expires_at <= now():
        return DemoExpiredError(
            f"{instance.key}: its ttl ended at {expires_at:%H:%M:%S} UTC; ask for a longer one"
        )
    return DemoGoneError(f"{instance.key}: somebody deleted it")


def _condition(instance: DemoInstance, type_: str) -> Condition | None:
    return find_condition(instance.status.conditions, type_)


def _timeout(
    instance: DemoInstance, within: timedelta, failure: KubernetesError | None
) -> DemoError:
    if failure is not None:
        return ClusterUnreachableError(str(failure))
    ready = _condition(instance, "Ready")
    reason = ready.reason if ready else "NotSeen"
    said = (
        f"{ready.reason}: {ready.message}"
        if ready
        else "the controller has not looked at it yet"
    )
    msg = (
        f"{instance.key}: not ready after {within.total_seconds():g} s: {said}; "
        f"see `tryitnow status demo/{instance.metadata.name} -n {instance.metadata.namespace}`"
    )
    return DemoTimeoutError(msg, reason)
