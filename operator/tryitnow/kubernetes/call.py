"""One request to the API server: how long it may take, and what its failure means to the caller."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import TypeVar

import aiohttp
from kubernetes.aio import client as aio

from tryitnow.kubernetes.errors import (
    ConflictError,
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    RefusedError,
    TooOldError,
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
        TooOldError: 410.
        ForbiddenError: 401 or 403.
        RefusedError: 400 or 422.
        KubernetesError: any other failure, or no answer.

    """
    try:
        return await call
    except aio.ApiException as error:
        message = f"{what}: {error.status} {error.reason}: {_said(error.body)}"
        raise error_of(error.status, message) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        msg = f"{what}: the API server does not answer: {type(error).__name__} {error}"
        raise KubernetesError(msg) from error


def _said(body: object) -> str:
    """Return the message of a Status, which the API server sends with each failure."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        status = json.loads(text)
    except ValueError:
        return text.strip()  # a proxy in between says it in its own way
    return str(status.get("message") or text) if isinstance(status, dict) else text


def error_of(status: int | None, message: str) -> KubernetesError:
    """Return what a status code means to the caller."""
    match status:
        case 404:
            return NotFoundError(message)
        case 409:
            return ConflictError(message)
        case 410:
            return TooOldError(message)
        case 401 | 403:
            return ForbiddenError(message)
        case 400 | 422:
            return RefusedError(message)
        case _:
            return KubernetesError(message)
