"""The notebook that most tests checkpoint, and how to talk to it (lab/apps/README.md)."""

from __future__ import annotations

import re
from typing import Any

import requests

from tryitnow.api.demoinstance import DemoInstance

PORT = 80


def notes_spec(image: str, *, env: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """The spec of a Checkpoint of it; ``changes`` replaces whole fields of the spec."""
    container = {
        "name": "notes",
        "image": image,
        "env": [{"name": name, "value": value} for name, value in (env or {}).items()],
        "ports": [{"containerPort": PORT}],
    }
    readiness = {"httpGet": {"path": "/healthz"}, "expectedBody": "ok", "timeout": "30s"}
    return {"template": {"containers": [container]}, "readiness": readiness, **changes}


def on_node(node: str) -> dict[str, Any]:
    """Only this node builds, keeps and runs it."""
    return {"nodeSelector": {"kubernetes.io/hostname": node}}


class Client:
    """Someone who uses one demo through its URL, without the proxies of this machine."""

    def __init__(self, url: str | None, host: str | None = None) -> None:
        assert url, "the demo has no URL"
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Connection"] = "close"
        if host is not None:
            self._session.headers["Host"] = host

    def get(self, path: str = "/", *, timeout: float = 10) -> requests.Response:
        return self._session.get(self.url + path, timeout=timeout, allow_redirects=False)

    def post(self, path: str, body: str = "") -> requests.Response:
        return self._session.post(self.url + path, data=body.encode(), timeout=10)

    def notes(self) -> list[str]:
        found: list[str] = self.get("/notes").json()
        return found

    def memory_id(self) -> str:
        """The id that the process drew at its start: the same in all demos of one archive."""
        found = re.search(r'<code id="instance">(\w+)</code>', self.get("/").text)
        assert found
        return found[1]

    def is_gone(self) -> bool:
        """Whether nobody answers at the URL any more."""
        try:
            self.get("/healthz")
        except requests.ConnectionError:
            return True
        return False


def visit(demo: DemoInstance) -> Client:
    """Someone who calls the demo by its own host name, wherever that leads in the lab."""
    return Client(demo.status.url, demo.spec.host)
