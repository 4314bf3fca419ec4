"""One request to the API server: how long it may take, and what its failure means to the caller."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import aiohttp
from kubernetes.aio import client as aio

from tryitnow.kubernetes.errors import (
    ConflictError,
    KubernetesError,
    NotFoundError,
    RefusedError,
)

T = TypeVar("T")

TIMEOUT_SECONDS = 15
"""For one request. The API server itself gives up on a mutating request after 34 s (etcd's
client default); nothing that we send should come near it."""


async def call_api(what: str, call: Awaitable[T]) -> T:
    """Await a request; ``what`` it was stands in the message of its failure.

    Raises:
        NotFoundError: 404.
        ConflictError: 409.
        RefusedError: 400, 401, 403 or 422.
        KubernetesError: any other failure, or no answer.

    """
    try:
        return await call
    except aio.ApiException as error:
        raise _translate(error, what) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        msg = f"{what}: the API server does not answer: {type(error).__name__} {error}"
        raise KubernetesError(msg) from error


def _translate(error: aio.ApiException, what: str) -> KubernetesError:
    detail = f"{what}: {error.status} {error.reason}: {error.body or ''}".strip()
    match error.status:
        case 404:
            return NotFoundError(detail)
        case 409:
            return ConflictError(detail)
        case 400 | 401 | 403 | 422:
            return RefusedError(detail)
        case _:
            return KubernetesError(detail)
