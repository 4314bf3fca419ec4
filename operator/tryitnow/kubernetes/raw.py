"""Requests by their path, where the client's own classes are too large or too many."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp
from kubernetes.aio import client as aio

from tryitnow.kubernetes.call import TIMEOUT_SECONDS, call_api, error_of
from tryitnow.kubernetes.errors import KubernetesError

JSON = "application/json"


async def request_json(
    api: aio.ApiClient,
    what: str,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: object = None,
    content_type: str = JSON,
    accept: str = JSON,
) -> Any:  # noqa: ANN401 - JSON
    """Make one request and return the object in its answer.

    The client's own class for the core API takes 25 MB of memory (250 modules), and its class for
    custom objects has two methods, with and without a namespace, for each that is needed.

    Args:
        api: The client.
        what: The purpose, for the message of a failure.
        method: HTTP method.
        path: Path of the API, quoted.
        query: Query of the URL.
        body: The object to send, as JSON.
        content_type: Media type of the body.
        accept: Media type of the answer.

    Raises:
        KubernetesError: as ``call_api`` has it.

    """

    async def ask() -> Any:  # noqa: ANN401
        headers = {"Accept": accept, "Content-Type": content_type}
        answer = await _send(api, method, path, query or {}, headers, body, TIMEOUT_SECONDS)
        await answer.read()
        return api.response_deserialize(answer, {"2XX": "object"}).data

    return await call_api(what, ask())


async def get_json(
    api: aio.ApiClient,
    what: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    accept: str = JSON,
) -> Any:  # noqa: ANN401 - JSON
    """Read a path."""
    return await request_json(api, what, "GET", path, query=query, accept=accept)


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
    asked = _send(api, "GET", path, whole, {"Accept": JSON}, None, limit)
    answer = await call_api(what, asked)
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
    api: aio.ApiClient,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: dict[str, str],
    body: object,
    seconds: int,
) -> Any:  # noqa: ANN401 - the client's response, of which it tells mypy nothing
    request = await api.param_serialize(
        method,
        path,
        query_params=list(query.items()),
        header_params=headers,
        body=body,
        auth_settings=["BearerToken"],
    )
    return await api.call_api(*request, _request_timeout=seconds)
