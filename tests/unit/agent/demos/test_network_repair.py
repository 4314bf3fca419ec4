"""Lost rules of Podman's network are noticed and set again, not too often."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.agent.demos.shop import Clock
from tests.unit.fakes import FakePodman
from tryitnow.agent.demos.network import PAUSE_SECONDS, NetworkRepair
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError

THERE, GONE = "table inet filter\ntable inet netavark\n", "table inet filter\n"


class Network:
    """The tables of a node."""

    def __init__(self, podman: FakePodman) -> None:
        self.tables: str | None = THERE
        self.clock = Clock()
        self.repair = NetworkRepair(podman, self._list, self.clock)

    async def _list(self) -> str | None:
        return self.tables


@pytest.fixture
def network(podman: FakePodman) -> Network:
    return Network(podman)


async def test_a_table_that_vanished_is_set_again(network: Network, podman: FakePodman) -> None:
    await network.repair.resync()
    assert podman.log == []
    network.tables = GONE
    await network.repair.resync()
    assert podman.log == ["reload network --all"]


async def test_a_node_that_never_had_the_table_lacks_nothing(
    network: Network, podman: FakePodman
) -> None:
    """Podman uses iptables there, or has no network yet."""
    network.tables = GONE
    await network.repair.resync()
    assert podman.log == []


async def test_tables_that_cannot_be_listed_say_nothing(
    network: Network, podman: FakePodman
) -> None:
    await network.repair.resync()
    network.tables = None
    await network.repair.resync()
    assert podman.log == []


async def test_many_who_find_it_at_once_have_it_repaired_once(
    network: Network, podman: FakePodman
) -> None:
    podman.delay["reload network"] = 0.01
    done = await asyncio.gather(*(network.repair.repair() for _ in range(20)))
    assert done.count(True) == 1
    network.clock.wait(PAUSE_SECONDS - 1)
    assert not await network.repair.repair()
    network.clock.wait(1)
    assert await network.repair.repair()
    assert len(podman.log) == 2


@pytest.mark.parametrize("error", [PodmanError("no such file"), PodmanUnreachableError("away")])
async def test_a_repair_that_fails_is_logged_and_tried_again_later(
    network: Network, podman: FakePodman, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    podman.failures["reload network"] = error
    assert not await network.repair.repair()
    assert str(error) in caplog.text
    podman.failures.clear()
    network.clock.wait(PAUSE_SECONDS)
    assert await network.repair.repair()
