"""The application that the machines are tried with: three users, data in Redis, limits.

nginx runs as www-data, Redis as redis, a program between them as guestbook. Its folder, with the
ways to make it need more than it may, is `apps/guestbook`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from tryitnow.api.demoinstance import DemoInstance

FOLDER = Path(__file__).parent / "apps/guestbook"

NAME = "guestbook"
"""Of its Checkpoint."""

MEMORY = 192 << 20
PIDS = 40
CPU = 0.5

_ANSWERS_WITHIN_S = 60.0
"""An emulated machine that does something else beside."""


def spec(image: str, **changes: Any) -> dict[str, Any]:
    """The spec of a Checkpoint of it, as its user would write it; ``changes`` replaces fields."""
    container = {
        "name": "guestbook",
        "image": image,
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"memory": str(MEMORY), "cpu": str(CPU), "pids": PIDS}},
    }
    readiness = {"httpGet": {"path": "/healthz"}, "expectedBody": "ok", "timeout": "10m"}
    return {"template": {"containers": [container]}, "readiness": readiness, **changes}


class Guest:
    """Someone who uses one demo, through its URL."""

    def __init__(self, demo: DemoInstance) -> None:
        assert demo.status.url, "the demo has no URL"
        self._url = demo.status.url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy leads into the lab

    def write(self, entry: str) -> None:
        answer = self._ask("POST", "/entries", entry)
        assert answer.status_code == 201, answer.text

    def entries(self) -> list[str]:
        found: list[str] = self._ask("GET", "/entries").json()
        return found

    def users(self) -> set[int]:
        """User IDs of all processes of the demo, as it sees them."""
        return set(self._ask("GET", "/users").json())

    def is_answered(self) -> bool:
        try:
            return self._ask("GET", "/healthz").text == "ok"
        except requests.RequestException:
            return False

    def ask_for_memory(self, mib: int) -> bool:
        """Have the program take memory; returns whether it lived."""
        try:
            return self._ask("POST", f"/memory?mib={mib}").text == str(mib)
        except requests.RequestException:
            return False

    def ask_for_processes(self, count: int) -> int:
        """Have the program start processes; returns how many it could."""
        return int(self._ask("POST", f"/processes?count={count}").text)

    def ask_for_processor(self, seconds: float) -> float:
        """Have the program compute for some time; returns how much of it it had a processor."""
        return float(self._ask("POST", f"/processor?seconds={seconds}").text)

    def _ask(self, method: str, path: str, body: str = "") -> requests.Response:
        return self._session.request(
            method,
            self._url + path,
            data=body.encode(),
            timeout=_ANSWERS_WITHIN_S,
            headers={"Connection": "close"},
        )
