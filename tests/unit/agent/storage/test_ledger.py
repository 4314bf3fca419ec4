"""The ledger: nothing is promised twice."""

from __future__ import annotations

import asyncio

import pytest

from tryitnow.agent.errors import NodeShortError
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.api.limits import MEMORY_EXHAUSTED

MIB = 1 << 20


def ledger(free_mib: int, reserve_mib: int = 0) -> Ledger:
    return Ledger(MEMORY_EXHAUSTED, "memory", lambda: free_mib * MIB, reserve_mib * MIB)


def test_what_is_reserved_is_not_reserved_again() -> None:
    memory = ledger(400)
    with memory.reserved(300 * MIB, "a warm sandbox"):
        assert memory.available_bytes == 100 * MIB
        with pytest.raises(NodeShortError), memory.reserved(101 * MIB, "another one"):
            pytest.fail("there is no room")
        with memory.reserved(100 * MIB, "a third"):
            assert memory.available_bytes == 0
    assert memory.available_bytes == 400 * MIB


def test_what_a_node_is_short_of_is_reported_in_numbers() -> None:
    memory = ledger(400, 150)
    with (
        pytest.raises(
            NodeShortError,
            match="a warm sandbox needs 300 MiB of memory; 250 MiB are free beyond the node's "
            "reserve of 150 MiB",
        ) as caught,
        memory.reserved(300 * MIB, "a warm sandbox"),
    ):
        pytest.fail("there is no room")
    assert caught.value.limit == MEMORY_EXHAUSTED
    assert memory.reserved_bytes == 0


def test_below_its_reserve_a_node_takes_nothing() -> None:
    memory = ledger(100, 150)
    assert memory.available_bytes < 0
    with pytest.raises(NodeShortError, match="0 MiB are free"), memory.reserved(0, "nothing much"):
        pytest.fail("the reserve is touched")


def test_a_reservation_ends_with_its_block_whatever_happens_in_it() -> None:
    memory = ledger(400)
    with pytest.raises(ValueError, match="broken"), memory.reserved(MIB, "a restore"):
        raise ValueError("broken")
    assert memory.reserved_bytes == 0


def test_a_demo_is_counted_although_there_is_no_room() -> None:
    memory = ledger(100)
    with memory.counted(300 * MIB):
        assert memory.available_bytes == -200 * MIB
        with pytest.raises(NodeShortError), memory.reserved(1, "a warm sandbox"):
            pytest.fail("a demo needs it")
    assert memory.reserved_bytes == 0


async def test_pools_that_fill_at_once_do_not_promise_the_same_memory() -> None:
    """B7: room for four, and two pools of four."""
    free = 400
    memory = Ledger(MEMORY_EXHAUSTED, "memory", lambda: free * MIB, 0)
    made = 0

    async def fill() -> None:
        nonlocal free, made
        try:
            with memory.reserved(100 * MIB, "a warm sandbox"):
                await asyncio.sleep(0.01)
                free -= 100
                made += 1
        except NodeShortError:
            return

    await asyncio.gather(*(fill() for _ in range(8)))
    assert made == 4
    assert free == 0
    await asyncio.gather(*(fill() for _ in range(8)))
    assert made == 4
