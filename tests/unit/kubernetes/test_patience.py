"""What took long to find out is written until the API server answers."""

from __future__ import annotations

import pytest

from tryitnow.kubernetes.errors import KubernetesError, NotFoundError
from tryitnow.kubernetes.patience import PAUSES_SECONDS, until_written


class Server:
    """Fails as it is told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.asked = 0

    async def write(self) -> str:
        self.asked += 1
        if self._failures:
            raise self._failures.pop(0)
        return "written"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tryitnow.kubernetes.patience.PAUSES_SECONDS", (0.0,) * len(PAUSES_SECONDS))


async def test_a_server_that_is_away_is_asked_again() -> None:
    server = Server(*[KubernetesError("429")] * len(PAUSES_SECONDS))
    assert await until_written(server.write) == "written"


async def test_one_that_stays_away_is_given_up() -> None:
    server = Server(*[KubernetesError("500")] * (len(PAUSES_SECONDS) + 1))
    with pytest.raises(KubernetesError, match="500"):
        await until_written(server.write)


async def test_a_refusal_is_an_answer() -> None:
    server = Server(NotFoundError("gone"))
    with pytest.raises(NotFoundError):
        await until_written(server.write)
    assert server.asked == 1
