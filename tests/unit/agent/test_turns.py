"""Turns: so many at once, the urgent first, and none is ever lost."""

from __future__ import annotations

import asyncio

from tryitnow.agent.turns import Turns


async def take(turns: Turns, name: str, order: list[str], *, urgent: bool) -> None:
    async with turns.turn(urgent=urgent):
        order.append(name)
        await asyncio.sleep(0)


async def started(task: asyncio.Task[None]) -> asyncio.Task[None]:
    await asyncio.sleep(0)
    return task


async def test_the_urgent_pass_those_who_can_wait_and_keep_their_own_order() -> None:
    turns, order = Turns(1), list[str]()
    async with turns.turn(urgent=True):
        tasks = [
            await started(asyncio.create_task(take(turns, name, order, urgent=urgent)))
            for name, urgent in (("fill", False), ("anna", True), ("bert", True))
        ]
        assert order == []
    await asyncio.gather(*tasks)
    assert order == ["anna", "bert", "fill"]


async def test_as_many_at_once_as_allowed() -> None:
    turns, order = Turns(2), list[str]()
    async with turns.turn(urgent=True):
        await take(turns, "second", order, urgent=False)
    assert order == ["second"]


async def test_who_gives_up_waiting_takes_no_turn_with_it() -> None:
    turns, order = Turns(1), list[str]()
    async with turns.turn(urgent=True):
        gone = await started(asyncio.create_task(take(turns, "gone", order, urgent=True)))
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    async with asyncio.timeout(1):
        await take(turns, "next", order, urgent=True)
    assert order == ["next"]


async def test_a_turn_given_in_the_moment_of_the_cancellation_goes_on_to_the_next() -> None:
    turns, order = Turns(1), list[str]()
    async with turns.turn(urgent=True):
        gone = await started(asyncio.create_task(take(turns, "gone", order, urgent=True)))
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    async with asyncio.timeout(1):
        await take(turns, "next", order, urgent=True)
    assert order == ["next"]


async def test_it_is_pressed_while_somebody_urgent_has_a_turn_or_waits_for_one() -> None:
    turns, order = Turns(1), list[str]()
    assert not turns.is_pressed
    async with turns.turn(urgent=False):
        assert not turns.is_pressed
        waiting = await started(asyncio.create_task(take(turns, "anna", order, urgent=True)))
        assert turns.is_pressed
    await waiting
    assert not turns.is_pressed
