"""Counts and times each request to the API server, by verb and resource.

Each answer also carries the time of the API server.
"""

from __future__ import annotations

import time
from typing import Any

import aiohttp
from kubernetes.aio import client as aio
from kubernetes.aio.client import rest

from tryitnow.kubernetes.clock import ServerClock
from tryitnow.metrics.instruments import Metrics
from tryitnow.metrics.program import KUBERNETES_REQUEST_DURATION, KUBERNETES_REQUEST_ERRORS

_NO_ANSWER = 0


class InstrumentedApiClient(aio.ApiClient):
    """The API client; all calls of all APIs go through its one method."""

    def __init__(
        self, configuration: aio.Configuration, metrics: Metrics, clock: ServerClock | None = None
    ) -> None:
        super().__init__(configuration)
        self._metrics = metrics
        self._clock = clock or ServerClock()

    async def call_api(
        self, method: str, url: str, *arguments: Any, **options: Any
    ) -> rest.RESTResponse:
        """Make a request."""
        labels = {
            "verb": method,
            "resource": resource_of(url.removeprefix(self.configuration.host)),
        }
        began = time.monotonic()
        # A request that is cancelled has no code: it did not fail.
        code: int | None = None
        try:
            response = await super().call_api(method, url, *arguments, **options)
            code = response.status
            self._clock.observe(response.headers.get("Date"), began)
        except (aiohttp.ClientError, TimeoutError, OSError, aio.ApiException) as error:
            code = getattr(error, "status", None) or _NO_ANSWER
            raise
        finally:
            took = time.monotonic() - began
            self._metrics.observe(KUBERNETES_REQUEST_DURATION, took, **labels)
            if code is not None and not 200 <= code < 300:
                self._metrics.count(KUBERNETES_REQUEST_ERRORS, **labels, code=str(code))
        return response


def resource_of(path: str) -> str:
    """Return the resource in a path of the API, such as ``demoinstances/status``, without names."""
    parts = path.partition("?")[0].strip("/").split("/")
    # /api/v1/… or /apis/GROUP/VERSION/…
    parts = parts[3:] if parts[0] == "apis" else parts[2:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return "/".join(parts[0:1] + parts[2:3])
