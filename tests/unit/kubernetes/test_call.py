"""What the API server answers, as the caller reads it, and who asks again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from kubernetes.aio import client as aio

from tests.unit.virtual_time import in_virtual_time
from tryitnow.kubernetes.call import WRITE_BACKOFF, call_api, write_with_retry
from tryitnow.kubernetes.errors import (
    ConflictError,
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    RefusedError,
    TooOldError,
)


class Server:
    """Fails as it is told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.asked_at: list[float] = []

    async def write(self) -> str:
        self.asked_at.append(asyncio.get_running_loop().time())
        if self._failures:
            raise self._failures.pop(0)
        return "written"


def written(write: Callable[[], Awaitable[str]]) -> str:
    return in_virtual_time(write_with_retry(write))


def test_a_server_that_is_away_is_asked_again() -> None:
    server = Server(*[KubernetesError("500")] * (WRITE_BACKOFF.steps - 1))
    assert written(server.write) == "written"
    pauses = [b - a for a, b in zip(server.asked_at, server.asked_at[1:], strict=False)]
    assert pauses == sorted(pauses), "each pause is longer than the one before"
    assert sum(pauses) > 60, "a new API server leads in that time"


def test_one_that_stays_away_is_given_up() -> None:
    server = Server(*[KubernetesError("500")] * WRITE_BACKOFF.steps)
    with pytest.raises(KubernetesError, match="500"):
        written(server.write)


def test_one_that_asks_to_be_left_alone_is() -> None:
    busy = KubernetesError("too many requests", status=429, headers={"Retry-After": "30"})
    server = Server(busy)
    assert written(server.write) == "written"
    assert server.asked_at[1] - server.asked_at[0] >= 30


@pytest.mark.parametrize("kind", [NotFoundError, ConflictError, RefusedError])
def test_a_refusal_is_an_answer(kind: type[KubernetesError]) -> None:
    server = Server(kind("no"))
    with pytest.raises(kind):
        written(server.write)
    assert len(server.asked_at) == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, RefusedError),
        (401, ForbiddenError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, TooOldError),
        (422, RefusedError),
        (500, KubernetesError),
    ],
)
async def test_a_status_is_what_the_caller_can_do(
    status: int, expected: type[KubernetesError]
) -> None:
    async def call() -> None:
        body = json.dumps({"kind": "Status", "message": "the quota is used up"})
        raise aio.ApiException(status=status, reason="Because", body=body)

    with pytest.raises(KubernetesError) as reported:
        await call_api("create a demo", call())
    assert type(reported.value) is expected
    assert str(reported.value) == f"create a demo: {status} Because: the quota is used up"


async def test_what_a_proxy_says_is_handed_on() -> None:
    async def call() -> None:
        raise aio.ApiException(status=502, reason="Bad Gateway", body="<html>no way</html>")

    with pytest.raises(KubernetesError, match="502 Bad Gateway: <html>no way</html>"):
        await call_api("get", call())


async def test_a_refusal_names_the_fields_that_it_is_about() -> None:
    async def call() -> None:
        cause = {"field": "metadata.uid", "reason": "FieldValueInvalid"}
        body = json.dumps({"kind": "Status", "message": "no", "details": {"causes": [cause]}})
        raise aio.ApiException(status=422, reason="Invalid", body=body)

    with pytest.raises(RefusedError) as reported:
        await call_api("patch", call())
    assert reported.value.fields == ("metadata.uid",)
    assert reported.value.status == 422


async def test_how_long_the_api_server_wants_to_be_left_alone_is_known() -> None:
    async def call() -> None:
        error = aio.ApiException(status=429, reason="Too Many Requests", body="")
        error.headers = {"Retry-After": "7"}
        raise error

    with pytest.raises(KubernetesError) as reported:
        await call_api("list", call())
    assert reported.value.retry_after == timedelta(seconds=7)
    assert KubernetesError("no answer").retry_after is None
