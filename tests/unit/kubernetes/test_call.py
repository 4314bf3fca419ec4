"""What took long to find out is written until the API server answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.virtual_time import in_virtual_time
from tryitnow.kubernetes.call import WRITE_BACKOFF, write_with_retry
from tryitnow.kubernetes.errors import ConflictError, KubernetesError, NotFoundError, RefusedError


class Server:
    """Fails as it is told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.asked_at: list[float] = []

    async def write(self) -> str:
        self.asked_at.append(asyncio.get_running_loop().time())
        if self._failures:
            raise self._failures.pop(0)
        return "written"


def written(write: Callable[[], Awaitable[str]]) -> str:
    return in_virtual_time(write_with_retry(write))


def test_a_server_that_is_away_is_asked_again() -> None:
    server = Server(*[KubernetesError("500")] * (WRITE_BACKOFF.steps - 1))
    assert written(server.write) == "written"
    pauses = [b - a for a, b in zip(server.asked_at, server.asked_at[1:], strict=False)]
    assert pauses == sorted(pauses), "each pause is longer than the one before"
    assert sum(pauses) > 60, "a new API server leads in that time"


def test_one_that_stays_away_is_given_up() -> None:
    server = Server(*[KubernetesError("500")] * WRITE_BACKOFF.steps)
    with pytest.raises(KubernetesError, match="500"):
        written(server.write)


def test_one_that_asks_to_be_left_alone_is() -> None:
    busy = KubernetesError("too many requests", status=429, headers={"Retry-After": "30"})
    server = Server(busy)
    assert written(server.write) == "written"
    assert server.asked_at[1] - server.asked_at[0] >= 30


@pytest.mark.parametrize("kind", [NotFoundError, ConflictError, RefusedError])
def test_a_refusal_is_an_answer(kind: type[KubernetesError]) -> None:
    server = Server(kind("no"))
    with pytest.raises(kind):
        written(server.write)
    assert len(server.asked_at) == 1
