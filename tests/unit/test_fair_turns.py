"""Turns by namespace: no flood of one keeps the others waiting."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from tests.unit.virtual_time import in_virtual_time
from tryitnow.api.meta import Key
from tryitnow.fair_turns import FairTurns
from tryitnow.workqueue import WorkQueue

Begun = list[tuple[str, float]]


async def _ask(turns: FairTurns, begun: Begun, wishes: list[tuple[str, float]]) -> None:
    clock = asyncio.get_running_loop().time

    async def hold(namespace: str, seconds: float) -> None:
        async with turns.turn(namespace):
            begun.append((namespace, clock()))
            await asyncio.sleep(seconds)

    async with asyncio.TaskGroup() as group:
        for namespace, seconds in wishes:
            group.create_task(hold(namespace, seconds))
            await asyncio.sleep(0)


def test_namespaces_are_served_one_after_the_other() -> None:
    begun: Begun = []
    wishes = [("flood", 1.0)] * 6 + [("anna", 1.0), ("anna", 1.0), ("bert", 1.0)]
    in_virtual_time(_ask(FairTurns(1), begun, wishes))
    assert [namespace for namespace, _ in begun] == [
        *("flood", "flood", "anna", "bert", "flood", "anna", "flood", "flood", "flood")
    ]
    assert [at for _, at in begun] == list(range(9)), "a single turn stays a single one"


def test_within_a_namespace_first_come_is_first_served_and_so_many_at_once() -> None:
    begun: Begun = []
    in_virtual_time(_ask(FairTurns(2), begun, [("shops", 3.0), ("shops", 1.0), ("shops", 1.0)]))
    assert begun == [("shops", 0), ("shops", 0), ("shops", 1)]


def test_one_namespace_that_holds_all_turns_for_an_hour_shuts_nobody_out() -> None:
    """Two builds whose application never answers stop no build of another namespace."""
    begun: Begun = []
    wishes = [("hangs", 3600.0)] * 4 + [("anna", 60.0), ("bert", 60.0)]
    in_virtual_time(_ask(FairTurns(2), begun, wishes))
    assert begun[:4] == [("hangs", 0), ("hangs", 0), ("anna", 0), ("bert", 60)], (
        "one turn more, and not one for each"
    )
    assert begun[4] == ("hangs", 3600)


async def _give_up(turns: FairTurns) -> list[str]:
    order: list[str] = []

    async def take(name: str) -> None:
        async with turns.turn("shops"):
            order.append(name)

    async with turns.turn("shops"):
        waits, gone = (asyncio.create_task(take(name)) for name in ("waits", "gone"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    # The turn is given to the one that waits, in the moment in which that gives up as well.
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    await take("next")
    return order


def test_who_gives_up_takes_no_turn_with_it() -> None:
    assert in_virtual_time(_give_up(FairTurns(1))) == ["next"]


async def _work(keys: list[Key]) -> list[str]:
    done: list[str] = []
    all_done = asyncio.Event()

    async def reconcile(key: Key) -> timedelta | None:
        await asyncio.sleep(1)
        done.append(key.namespace)
        if len(done) == len(keys):
            all_done.set()
        return None

    queue = WorkQueue("test", reconcile, expected=(), concurrency=2)
    for key in keys:
        queue.add(key)
    await all_done.wait()
    await queue.close()
    return done


def test_a_queue_of_objects_is_fair_by_namespace() -> None:
    keys = [Key("flood", str(number)) for number in range(100)] + [Key("anna", "demo")]
    done = in_virtual_time(_work(keys))
    assert done.index("anna") <= 3
