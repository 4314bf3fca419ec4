"""The Kubernetes API as an application that uses it has it: one open connection per thread."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

from bench import BenchError
from lab import network
from lab.cluster import Cluster

Found = dict[str, Any]

_TIMEOUT_S = 60.0

_IDLE_S = 60.0
"""A connection that rested longer is opened anew: the API server closes it after 90 s (Go's
net/http as kube-apiserver sets it), and what is sent then is lost."""


class Client:
    """The administrator's requests, over connections that are kept.

    A handshake for each request would be measured along with what it is for.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._address = network.control_plane_address(cluster.shape.network)
        home = cluster.lab.certificates
        self._tls = ssl.create_default_context(cafile=str(home / "ca.crt"))
        self._tls.load_cert_chain(str(home / "admin.crt"), str(home / "admin.key"))
        self._local = threading.local()

    def get(self, path: str) -> Found:
        """Read an object or a list."""
        return self._request("GET", path)

    def create(self, path: str, body: Found) -> Found:
        """Create an object."""
        return self._request("POST", path, body)

    def apply(self, path: str, body: Found) -> Found:
        """Server-side apply."""
        where = f"{path}?fieldManager=bench&force=true"
        return self._request("PATCH", where, body, "application/apply-patch+yaml")

    def delete(self, path: str) -> None:
        """Delete an object, or all of a collection."""
        self._request("DELETE", path)

    def lines(self, path: str) -> tuple[http.client.HTTPConnection, Iterator[bytes]]:
        """Open a watch; close the connection to end it."""
        connection = self._connect(None)
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            raise BenchError(f"GET {path}: {answer.status} {answer.read()[:500]!r}")
        return connection, iter(answer.readline, b"")

    def _connect(self, timeout: float | None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._address, 6443, context=self._tls, timeout=timeout)

    def _connection(self) -> http.client.HTTPSConnection:
        found: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        now = time.monotonic()
        if found is None:
            found = self._connect(_TIMEOUT_S)
            self._local.connection = found
        elif now - self._local.used > _IDLE_S:
            found.close()  # the next request opens it
        self._local.used = now
        return found

    def _request(
        self, method: str, path: str, body: Found | None = None, kind: str = "application/json"
    ) -> Found:
        connection = self._connection()
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, content, {"Content-Type": kind} if body else {})
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise BenchError(f"{method} {path}: {answer.status} {said[:500]!r}")
        found: Found = json.loads(said)
        return found
