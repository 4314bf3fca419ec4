"""Turns: so many at once, demos first, and none is ever lost."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.unit.virtual_time import in_virtual_time
from tryitnow.agent.turns import HEAD_START_SECONDS, PrioritySemaphore, ShortTurns

SHOPS = "shops"


async def take(turns: PrioritySemaphore, name: str, order: list[str], *, urgent: bool) -> None:
    async with turns.turn(SHOPS, urgent=urgent):
        order.append(name)
        await asyncio.sleep(0)


async def started(task: asyncio.Task[None]) -> asyncio.Task[None]:
    await asyncio.sleep(0)
    return task


async def test_the_urgent_pass_those_who_can_wait_and_keep_their_own_order() -> None:
    turns, order = PrioritySemaphore(1), list[str]()
    async with turns.turn(SHOPS, urgent=True):
        tasks = [
            await started(asyncio.create_task(take(turns, name, order, urgent=urgent)))
            for name, urgent in (("fill", False), ("anna", True), ("bert", True))
        ]
        assert order == []
    await asyncio.gather(*tasks)
    assert order == ["anna", "bert", "fill"]


async def test_as_many_at_once_as_allowed() -> None:
    turns, order = PrioritySemaphore(2), list[str]()
    async with turns.turn(SHOPS, urgent=True):
        await take(turns, "second", order, urgent=False)
    assert order == ["second"]


async def test_who_gives_up_waiting_takes_no_turn_with_it() -> None:
    turns, order = PrioritySemaphore(1), list[str]()
    async with turns.turn(SHOPS, urgent=True):
        gone = await started(asyncio.create_task(take(turns, "gone", order, urgent=True)))
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    async with asyncio.timeout(1):
        await take(turns, "next", order, urgent=True)
    assert order == ["next"]


async def test_a_turn_given_in_the_moment_of_the_cancellation_goes_on_to_the_next() -> None:
    turns, order = PrioritySemaphore(1), list[str]()
    async with turns.turn(SHOPS, urgent=True):
        gone = await started(asyncio.create_task(take(turns, "gone", order, urgent=True)))
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    async with asyncio.timeout(1):
        await take(turns, "next", order, urgent=True)
    assert order == ["next"]


async def test_a_turn_ends_with_its_block_whatever_happens_in_it() -> None:
    turns, order = PrioritySemaphore(1), list[str]()
    with pytest.raises(ValueError, match="broken"):
        async with turns.turn(SHOPS, urgent=True):
            raise ValueError("broken")
    assert not turns.has_high_priority
    await take(turns, "next", order, urgent=False)
    assert order == ["next"]


async def test_it_knows_whether_somebody_urgent_has_a_turn_or_waits_for_one() -> None:
    turns, order = PrioritySemaphore(1), list[str]()
    assert not turns.has_high_priority
    async with turns.turn(SHOPS, urgent=False):
        assert not turns.has_high_priority
        waiting = await started(asyncio.create_task(take(turns, "anna", order, urgent=True)))
        assert turns.has_high_priority
    await waiting
    assert not turns.has_high_priority


# -- bursts, and steady demand --------------------------------------------------------------------

SERVICE_SECONDS = 1.0
FILLS = 3


async def _demand(order: list[str], demos: int, every_seconds: float) -> None:
    """Have fills wait behind a demo, and other demos come after them."""
    turns = PrioritySemaphore(1)

    async def hold(name: str, *, urgent: bool) -> None:
        async with turns.turn(SHOPS, urgent=urgent):
            order.append(name)
            await asyncio.sleep(SERVICE_SECONDS)

    async with asyncio.TaskGroup() as group:
        await started(group.create_task(hold("demo", urgent=True)))
        for _ in range(FILLS):
            await started(group.create_task(hold("fill", urgent=False)))
        for _ in range(demos - 1):
            await asyncio.sleep(every_seconds)
            await started(group.create_task(hold("demo", urgent=True)))


def test_a_burst_is_served_before_what_can_wait_however_long_it_takes() -> None:
    order: list[str] = []
    in_virtual_time(_demand(order, 30, 0))
    assert order == ["demo"] * 30 + ["fill"] * FILLS


def test_steady_demand_that_is_too_much_does_not_keep_a_pool_empty() -> None:
    order: list[str] = []
    every_seconds = SERVICE_SECONDS / 2
    in_virtual_time(_demand(order, 60, every_seconds))
    fills = [at for at, name in enumerate(order) if name == "fill"]
    before_the_head_start = 1 + HEAD_START_SECONDS / every_seconds
    assert fills[0] <= before_the_head_start
    assert [later - sooner for sooner, later in pairwise(fills)] == [2, 2], (
        "a demo never waits for two of them"
    )


async def _gone_and_new(turns: PrioritySemaphore, order: list[str]) -> None:
    async with asyncio.TaskGroup() as group, turns.turn(SHOPS, urgent=True):
        gone = await started(group.create_task(take(turns, "gone", order, urgent=False)))
        await asyncio.sleep(2 * HEAD_START_SECONDS)
        gone.cancel()
        for name, urgent in (("new", False), ("anna", True), ("bert", True)):
            await started(group.create_task(take(turns, name, order, urgent=urgent)))


def test_who_has_gone_does_not_make_the_next_one_old() -> None:
    order: list[str] = []
    in_virtual_time(_gone_and_new(PrioritySemaphore(1), order))
    assert order == ["anna", "bert", "new"]


# -- namespaces -----------------------------------------------------------------------------------


async def _flood(order: list[str]) -> None:
    """Have one namespace ask for forty restores, and two others for two each a moment later."""
    turns = PrioritySemaphore(2)

    async def hold(namespace: str, *, urgent: bool) -> None:
        async with turns.turn(namespace, urgent=urgent):
            order.append(namespace)
            await asyncio.sleep(SERVICE_SECONDS)

    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            await started(group.create_task(hold("flood", urgent=True)))
        for namespace in ("anna", "bert", "anna", "bert"):
            await started(group.create_task(hold(namespace, urgent=True)))
        await started(group.create_task(hold("fill", urgent=False)))


def test_a_flood_of_one_namespace_does_not_keep_the_others_waiting() -> None:
    order: list[str] = []
    in_virtual_time(_flood(order))
    assert order[:8] == ["flood"] * 2 + ["flood", "anna", "bert"] * 2
    assert order[8:] == ["flood"] * 36 + ["fill"], "a burst goes before what can wait, as ever"


# -- short turns ----------------------------------------------------------------------------------


async def _one_hangs(done: list[str]) -> None:
    turns = ShortTurns(1, 30)
    clock = asyncio.get_running_loop().time

    async def work(name: str, seconds: float) -> None:
        async with turns.turn(SHOPS):
            done.append(f"{name} begins at {clock():g}")
            await asyncio.sleep(seconds)

    async with asyncio.TaskGroup() as group:
        group.create_task(work("hanging", 100))
        group.create_task(work("second", 5))
        group.create_task(work("third", 5))


def test_one_that_hangs_holds_up_the_others_for_one_turn_only() -> None:
    done: list[str] = []
    in_virtual_time(_one_hangs(done))
    assert done == ["hanging begins at 0", "second begins at 30", "third begins at 35"]


async def _late_end() -> int:
    turns, at_once, most = ShortTurns(1, 30), 0, 0

    async def work(seconds: float) -> None:
        nonlocal at_once, most
        async with turns.turn(SHOPS):
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(seconds)
            at_once -= 1

    async with asyncio.TaskGroup() as group:
        group.create_task(work(31))  # its turn is given back by the clock, and not by its end again
        for _ in range(5):
            group.create_task(work(20))
    return most


def test_a_turn_is_given_back_once() -> None:
    assert in_virtual_time(_late_end()) == 2, "the late one beside one other"


async def test_short_turns_are_given_back_by_who_fails_or_is_cancelled() -> None:
    turns = ShortTurns(1, 60)
    with pytest.raises(ValueError, match="broken"):
        async with turns.turn(SHOPS):
            raise ValueError("broken")
    async with turns.turn(SHOPS):
        waiting = asyncio.create_task(turns.turn(SHOPS).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(1), turns.turn(SHOPS):
        pass
