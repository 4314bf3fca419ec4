"""The few requests the lab itself makes to the Kubernetes API; starting kubectl takes longer."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from lab import LabError
from lab.state import Lab

_TIMEOUT_S = 30.0


class Api:
    """The API server as seen by the administrator."""

    def __init__(self, lab: Lab, address: str) -> None:
        self._address = address
        home = lab.certificates
        self._tls = ssl.create_default_context(cafile=str(home / "ca.crt"))
        self._tls.load_cert_chain(str(home / "admin.crt"), str(home / "admin.key"))

    def ready(self) -> bool:
        """Whether the server says so itself."""
        return self.answers("/readyz")

    def answers(self, path: str) -> bool:
        """Whether a request for that path succeeds right now."""
        try:
            return self._request("GET", path)[0] == http.HTTPStatus.OK
        except OSError:
            return False

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at that path."""
        code, body = self._request("GET", path)
        return None if code == http.HTTPStatus.NOT_FOUND else self._parsed("GET", path, code, body)

    def apply(self, path: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Server-side apply."""
        where = f"{path}?fieldManager=lab&force=true"
        code, body = self._request("PATCH", where, wanted, "application/apply-patch+yaml")
        return self._parsed("PATCH", path, code, body)

    def create(self, path: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Create an object, or something like a token, which has no name."""
        code, body = self._request("POST", path, wanted, "application/json")
        return self._parsed("POST", path, code, body)

    def merge(self, path: str, change: dict[str, Any]) -> dict[str, Any]:
        """Merge patch."""
        code, body = self._request("PATCH", path, change, "application/merge-patch+json")
        return self._parsed("PATCH", path, code, body)

    def delete(self, path: str, options: dict[str, Any]) -> None:
        """Delete an object; fine when it is gone already."""
        code, body = self._request("DELETE", path, options, "application/json")
        if code != http.HTTPStatus.NOT_FOUND:
            self._parsed("DELETE", path, code, body)

    def wait_for_change(self, path: str, since: str, seconds: int) -> None:
        """Wait until something in a list changes after that version, but not longer than that."""
        connection = http.client.HTTPSConnection(
            self._address, 6443, context=self._tls, timeout=_TIMEOUT_S
        )
        query = f"watch=1&resourceVersion={since}&timeoutSeconds={seconds}"
        try:
            connection.request("GET", f"{path}?{query}")
            connection.getresponse().readline()
        finally:
            connection.close()

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None = None, kind: str = ""
    ) -> tuple[int, bytes]:
        # http.client knows nothing of proxies, and in the lab's network there is none.
        connection = http.client.HTTPSConnection(
            self._address, 6443, context=self._tls, timeout=_TIMEOUT_S
        )
        try:
            content = json.dumps(body) if body is not None else None
            connection.request(method, path, content, {"Content-Type": kind} if kind else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    @staticmethod
    def _parsed(method: str, path: str, code: int, body: bytes) -> dict[str, Any]:
        if code >= http.HTTPStatus.BAD_REQUEST:
            raise LabError(f"{method} {path}: {code} {body.decode(errors='replace')[:500]}")
        parsed: dict[str, Any] = json.loads(body)
        return parsed
