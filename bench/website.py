"""The probe that all ways of starting share: the first answer with the expected status."""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass

from bench import BenchError

FIRST_PAUSE_S = 0.002
LAST_PAUSE_S = 0.05
"""Between two tries; grown by a fifth each time. What answers within 20 ms is measured to about
2 ms; an application that takes seconds to install itself is not kept from it by being asked (every
2 ms made a cold start of 3 s one of 11 s)."""

_CONNECT_WITHIN_S = 0.05
"""Packets to a container that is being restored are dropped (CRIU locks its network). The kernel
would send the lost SYN again after 1, 3 and 7 s only, and that would be measured; a new try is not
lost longer than the container is locked."""

_ANSWER_WITHIN_S = 5.0


@dataclass(frozen=True)
class Website:
    """What is asked of a copy, wherever it answers."""

    path: str
    host: str | None
    status: int
    warm_up: tuple[str, ...]

    def wait(self, address: str, port: int, within_s: float) -> float:
        """Ask until it answers as expected; returns when it did."""
        deadline = time.perf_counter() + within_s
        pause = FIRST_PAUSE_S
        while True:
            said = self.ask(address, port, self.path)
            now = time.perf_counter()
            if said == self.status:
                return now
            if now > deadline:
                raise BenchError(f"http://{address}:{port}{self.path} answers {said}, not ready")
            time.sleep(pause)
            pause = min(pause * 1.2, LAST_PAUSE_S)

    def ask(self, address: str, port: int, path: str) -> int | str:
        """Return the status of an answer, or why there is none."""
        connection = http.client.HTTPConnection(address, port, timeout=_CONNECT_WITHIN_S)
        try:
            connection.connect()
            connection.sock.settimeout(_ANSWER_WITHIN_S)
            connection.request("GET", path, headers={"Host": self.host} if self.host else {})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            return f"nothing ({type(error).__name__})"
        finally:
            connection.close()
        return answer.status
