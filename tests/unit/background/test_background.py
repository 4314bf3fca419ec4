"""What is done again and again, whatever befalls a single time."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tryitnow.background import happens, in_thread, made_in_thread, run_periodically, uncancelled

Start = Callable[..., asyncio.Task[None]]


class Step:
    """Counts its calls, and fails as it is told."""

    def __init__(self, *failures: BaseException | None) -> None:
        self.calls = 0
        self._failures = iter(failures)
        self._called = asyncio.Event()

    async def __call__(self) -> None:
        self.calls += 1
        self._called.set()
        if failure := next(self._failures, None):
            raise failure

    async def reached(self, calls: int) -> None:
        async with asyncio.timeout(5):
            while self.calls < calls:
                self._called.clear()
                await self._called.wait()


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    tasks = []

    def make(step: Callable[[], Awaitable[None]], **options: object) -> asyncio.Task[None]:
        whole: dict[str, Any] = {
            "pause_seconds": lambda: 0.001,
            "expected": (OSError,),
            **options,
        }
        task: asyncio.Task[None] = asyncio.create_task(
            run_periodically("count sheep", step, **whole)
        )
        tasks.append(task)
        return task

    yield make
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_expected_failure_takes_one_line_and_the_next_round_comes(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    step = Step(OSError("the door is shut"))
    start(step)
    await step.reached(3)
    [record] = caplog.records
    assert record.message == "cannot count sheep: the door is shut"
    assert record.levelno == logging.WARNING
    assert record.exc_info is None


async def test_a_bug_is_logged_with_its_traceback_and_the_next_round_comes(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    step = Step(ZeroDivisionError("no sheep at all"), None, KeyError("again"))
    start(step)
    await step.reached(5)
    first, second = caplog.records
    assert first.message == "cannot count sheep: unexpected error"
    assert first.levelno == second.levelno == logging.ERROR
    assert "no sheep at all" in caplog.text
    assert "Traceback" in caplog.text


async def test_cancelling_a_round_ends_it(start: Start) -> None:
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    task = start(hang)
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelling_a_pause_ends_it(start: Start) -> None:
    step = Step()
    task = start(step, pause_seconds=lambda: 3600)
    await step.reached(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert step.calls == 1


async def test_the_first_round_may_wait_for_a_pause(start: Start) -> None:
    eager, slow = Step(), Step()
    start(eager, pause_seconds=lambda: 3600)
    start(slow, pause_seconds=lambda: 3600, at_once=False)
    await eager.reached(1)
    assert slow.calls == 0


async def test_each_pause_is_asked_for_anew(start: Start) -> None:
    pauses = iter([0.001, 0.001, 3600.0])
    step = Step()
    start(step, pause_seconds=lambda: next(pauses))
    await step.reached(3)
    assert next(pauses, None) is None


async def test_what_is_cancelled_waits_for_its_thread() -> None:
    running, go_on = threading.Event(), threading.Event()
    written = []

    def write() -> None:
        running.set()
        go_on.wait(5)
        written.append("all of it")

    work = asyncio.create_task(in_thread(write))
    await asyncio.to_thread(running.wait, 5)
    work.cancel()
    await asyncio.sleep(0)
    assert not work.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert written == ["all of it"]


async def test_a_thread_hands_on_what_comes_of_it() -> None:
    assert await in_thread(int, "7") == 7
    with pytest.raises(ValueError, match="seven"):
        await in_thread(int, "seven")


async def test_uncancelled_work_is_cancelled_when_it_is_done_after_any_number_of_requests() -> None:
    go_on = asyncio.Event()
    done = []

    async def clean_up() -> None:
        await go_on.wait()
        done.append("first half")
        await asyncio.sleep(0)
        done.append("second half")

    work = asyncio.create_task(uncancelled(clean_up()))
    for _ in range(3):
        await asyncio.sleep(0)
        work.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert done == ["first half", "second half"]


async def test_what_was_made_in_a_thread_is_removed_though_its_making_was_cancelled() -> None:
    begun, go_on = threading.Event(), threading.Event()
    there: set[str] = set()

    def make() -> str:
        begun.set()
        go_on.wait(10)
        there.add("scratch")
        return "scratch"

    async def work() -> None:
        async with made_in_thread(make, there.remove):
            pytest.fail("the block is not entered")

    task = asyncio.create_task(work())
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert there == set()


async def test_what_was_made_in_a_thread_lasts_as_long_as_the_block() -> None:
    there: set[str] = set()

    def make() -> str:
        there.add("scratch")
        return "scratch"

    async with made_in_thread(make, there.remove) as made:
        assert there == {made}
    assert there == set()


async def test_an_event_is_waited_for_and_not_for_ever() -> None:
    event = asyncio.Event()
    assert not await happens(event, within_seconds=0.01)
    asyncio.get_running_loop().call_soon(event.set)
    assert await happens(event, within_seconds=10)
