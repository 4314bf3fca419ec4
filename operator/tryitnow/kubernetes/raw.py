"""Requests by their path, where the client's own classes are too large or cannot do it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp
from kubernetes.aio import client as aio

from tryitnow.kubernetes.call import TIMEOUT_SECONDS, call_api, error_of
from tryitnow.kubernetes.errors import KubernetesError


async def get_json(
    api: aio.ApiClient,
    what: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    accept: str = "application/json",
) -> Any:  # noqa: ANN401 - JSON
    """Read a path.

    The client's own class for the core API takes 25 MB of memory (250 modules).
    """

    async def read() -> Any:  # noqa: ANN401
        answer = await _send(api, path, query or {}, accept, TIMEOUT_SECONDS)
        await answer.read()
        return api.response_deserialize(answer, {"200": "object"}).data

    return await call_api(what, read())


async def watch_json(
    api: aio.ApiClient, what: str, path: str, query: Mapping[str, str], seconds: int
) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    """Yield type and object of each watch event, until the server ends it after ``seconds``.

    Raises:
        TooOldError: what happened since the resource version is forgotten.
        KubernetesError: the API server refused, or the connection broke.

    """
    whole = {**query, "watch": "true", "timeoutSeconds": str(seconds)}
    # The server ends it; the client only where the server is gone without a word.
    limit = seconds + TIMEOUT_SECONDS
    answer = await call_api(what, _send(api, path, whole, "application/json", limit))
    try:
        if answer.status != 200:
            text = (await answer.read()).decode(errors="replace")
            raise error_of(answer.status, f"{what}: {text}")
        while line := await answer.response.content.readline():
            event = json.loads(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise error_of(status.get("code"), f"{what}: {status.get('message')}")
            yield event["type"], event["object"]
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        msg = f"{what}: the watch broke: {type(error).__name__} {error}"
        raise KubernetesError(msg) from error
    finally:
        _end(answer.response)


def _end(response: aiohttp.ClientResponse) -> None:
    """End a watch at once: a polite end of TLS would outlive the event loop of a short program."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


async def _send(
    api: aio.ApiClient, path: str, query: Mapping[str, str], accept: str, seconds: int
) -> Any:  # noqa: ANN401 - the client's response, of which it tells mypy nothing
    request = await api.param_serialize(
        "GET",
        path,
        query_params=list(query.items()),
        header_params={"Accept": accept},
        auth_settings=["BearerToken"],
    )
    return await api.call_api(*request, _request_timeout=seconds)
