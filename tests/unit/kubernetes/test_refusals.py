"""What the API server answers, as the caller reads it."""

from __future__ import annotations

import json

import pytest
from kubernetes.aio import client as aio

from tryitnow.kubernetes.call import call_api
from tryitnow.kubernetes.errors import (
    ConflictError,
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    RefusedError,
    TooOldError,
)


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

    with pytest.raises(KubernetesError) as told:
        await call_api("create a demo", call())
    assert type(told.value) is expected
    assert str(told.value) == f"create a demo: {status} Because: the quota is used up"


async def test_what_a_proxy_says_is_handed_on() -> None:
    async def call() -> None:
        raise aio.ApiException(status=502, reason="Bad Gateway", body="<html>no way</html>")

    with pytest.raises(KubernetesError, match="502 Bad Gateway: <html>no way</html>"):
        await call_api("get", call())
