"""A demo's way from the request to ready: created, watched, judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import timedelta

from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Condition, find_condition
from tryitnow.client.errors import (
    CheckpointNotFoundError,
    ClusterUnreachableError,
    DemoError,
    DemoFailedError,
    DemoTimeoutError,
    InvalidRequestError,
    NameTakenError,
    NotAllowedError,
    QuotaExceededError,
)
from tryitnow.client.following import Following
from tryitnow.client.request import DemoRequest
from tryitnow.client.running import Demo
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import (
    ConflictError,
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    RefusedError,
)

Observer = Callable[[DemoInstance], None]


def unobserved(_: DemoInstance) -> None:
    """For callers who only want the end."""


@contextmanager
def translate_errors() -> Iterator[None]:
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
    with translate_errors():
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
        CheckpointNotFoundError, InvalidRequestError, DemoFailedError, DemoGoneError: it will not
            be.
        DemoTimeoutError: not within that time.
        NotAllowedError: demos may be created, but not watched.

    """
    following = Following(kubernetes, instance)
    try:
        async with asyncio.timeout(within.total_seconds()), aclosing(following.states()) as states:
            with translate_errors():
                async for state in states:
                    observer(state)
                    if demo := judge(state):
                        return demo
    except TimeoutError as error:
        raise _timeout(following, within) from error
    raise AssertionError  # states never end by themselves


def judge(instance: DemoInstance) -> Demo | None:
    """Return the demo when it is ready, None while it may become so.

    Raises:
        CheckpointNotFoundError, InvalidRequestError, DemoFailedError: it will not.

    """
    ready = _condition(instance, "Ready")
    stalled = _condition(instance, "Stalled")
    if ready and ready.status == "True" and instance.status.url:
        return Demo(instance, instance.status.url)
    for found in (ready, stalled):
        if found and found.reason == "CheckpointNotFound":
            raise CheckpointNotFoundError(f"{instance.key}: {found.message}")
    if stalled and stalled.status == "True":
        if stalled.reason == "InvalidParameters":
            raise InvalidRequestError(f"{instance.key}: {stalled.message}")
        msg = f"{instance.key}: {stalled.reason}: {stalled.message}"
        raise DemoFailedError(msg, stalled.reason)
    return None


def _condition(instance: DemoInstance, type_: str) -> Condition | None:
    return find_condition(instance.status.conditions, type_)


def _timeout(following: Following, within: timedelta) -> DemoError:
    if following.failure is not None:
        return ClusterUnreachableError(str(following.failure))
    instance = following.instance
    ready = _condition(instance, "Ready")
    reason = ready.reason if ready else "NotSeen"
    text = f"{ready.reason}: {ready.message}" if ready else "the controller has not handled it yet"
    msg = (
        f"{instance.key}: not ready after {within.total_seconds():g} s: {text}; "
        f"see `tryitnow status demo/{instance.metadata.name} -n {instance.metadata.namespace}`"
    )
    return DemoTimeoutError(msg, reason)
