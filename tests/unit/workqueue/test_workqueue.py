"""The work queue: level-triggered, one at a time per key."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from tryitnow.api.meta import Key
from tryitnow.backoff import RetryableError
from tryitnow.workqueue import Reconcile, WorkQueue

A, B = Key("default", "a"), Key("default", "b")


class MendableError(Exception):
    """Stands for an error that waiting may fix."""


class BusyError(MendableError, RetryableError):
    """Stands for a server that asks to be left alone for an hour."""

    @property
    def retry_after(self) -> timedelta:
        return timedelta(hours=1)


MakeQueue = Callable[[Reconcile], WorkQueue]


@pytest.fixture
async def make_queue() -> AsyncIterator[MakeQueue]:
    queues: list[WorkQueue] = []

    def make(reconcile: Reconcile) -> WorkQueue:
        queues.append(WorkQueue("Demo", reconcile, expected=(MendableError,), concurrency=4))
        return queues[-1]

    yield make
    for queue in queues:
        await queue.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - conditions here are no events
            await asyncio.sleep(0.001)


async def test_a_queue_that_drains_finishes_what_is_at_work_and_begins_nothing(
    make_queue: MakeQueue,
) -> None:
    began, finished = list[Key](), list[Key]()

    async def reconcile(key: Key) -> timedelta:
        began.append(key)
        await asyncio.sleep(0.1)
        finished.append(key)
        return timedelta()  # it is to be looked at again, by the next agent

    queue = make_queue(reconcile)
    for number in range(6):
        queue.add(Key("default", str(number)))
    await until(lambda: len(began) == 4)
    await queue.drain(timedelta(seconds=5))
    queue.add(A)
    await asyncio.sleep(0.01)
    assert finished == began == [Key("default", str(number)) for number in range(4)]


async def test_a_queue_drains_for_so_long_and_no_longer(make_queue: MakeQueue) -> None:
    ended: list[str] = []

    async def reconcile(_: Key) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    queue = make_queue(reconcile)
    queue.add(A)
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        await queue.drain(timedelta(milliseconds=50))
    assert ended == ["cancelled"]


async def test_a_key_is_never_worked_on_twice_at_once(make_queue: MakeQueue) -> None:
    at_work, most, runs = 0, 0, 0

    async def reconcile(_: Key) -> None:
        nonlocal at_work, most, runs
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.01)
        at_work -= 1
        runs += 1

    queue = make_queue(reconcile)
    for _ in range(5):
        queue.add(A)
        await asyncio.sleep(0.003)
    await until(lambda: at_work == 0 and runs >= 2)
    assert most == 1


async def test_different_keys_are_worked_on_side_by_side(make_queue: MakeQueue) -> None:
    both = asyncio.Barrier(2)
    done = []

    async def reconcile(key: Key) -> None:
        await both.wait()
        done.append(key)

    queue = make_queue(reconcile)
    queue.add(A)
    queue.add(B)
    await until(lambda: set(done) == {A, B})


async def test_no_more_keys_at_once_than_allowed(make_queue: MakeQueue) -> None:
    at_work, most = 0, 0

    async def reconcile(_: Key) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.005)
        at_work -= 1

    queue = make_queue(reconcile)
    for i in range(12):
        queue.add(Key("default", str(i)))
    await until(lambda: most > 0 and at_work == 0)
    assert most == 4


async def test_what_changes_during_the_work_is_reconciled_once_more(make_queue: MakeQueue) -> None:
    runs = 0
    started, go_on = asyncio.Event(), asyncio.Event()

    async def reconcile(_: Key) -> None:
        nonlocal runs
        runs += 1
        started.set()
        await go_on.wait()

    queue = make_queue(reconcile)
    queue.add(A)
    await started.wait()
    for _ in range(3):
        queue.add(A)
    go_on.set()
    await until(lambda: runs == 2)
    await asyncio.sleep(0.01)
    assert runs == 2, "three changes meanwhile are one more look"


async def test_an_expected_error_is_retried_with_growing_pauses(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[float] = []

    async def reconcile(_: Key) -> None:
        runs.append(time.monotonic())
        if len(runs) < 3:
            msg = "not yet"
            raise MendableError(msg)

    make_queue(reconcile).add(A)
    await until(lambda: len(runs) == 3)
    first, second = runs[1] - runs[0], runs[2] - runs[1]
    # No upper bounds: a busy machine only makes them longer.
    assert first > 0.19
    assert second > 0.39
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.exc_info for r in warnings] == [None, None], "one line, no traceback"
    assert "not yet" in warnings[0].getMessage()
    assert "default/a" in warnings[0].getMessage()


async def test_a_bug_of_ours_is_logged_with_its_traceback_and_stops_nobody_else(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    runs: dict[Key, int] = {A: 0, B: 0}

    async def reconcile(key: Key) -> None:
        runs[key] += 1
        if key == A and runs[A] == 1:
            raise ZeroDivisionError

    queue = make_queue(reconcile)
    queue.add(A)
    queue.add(B)
    await until(lambda: runs == {A: 2, B: 1})
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.exc_info


async def test_a_change_ends_the_pause_before_a_retry(make_queue: MakeQueue) -> None:
    runs: list[float] = []

    async def reconcile(_: Key) -> None:
        runs.append(time.monotonic())
        if len(runs) < 3:
            raise BusyError  # which asks for an hour

    queue = make_queue(reconcile)
    queue.add(A)
    for number in (1, 2, 3):
        await until(lambda number=number: len(runs) == number)  # type: ignore[misc]
        await asyncio.sleep(0.01)
        queue.add(A)


async def test_whoever_asks_for_more_time_before_the_next_try_gets_it(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    runs = 0

    async def reconcile(_: Key) -> None:
        nonlocal runs
        runs += 1
        raise BusyError

    make_queue(reconcile).add(A)
    await until(lambda: runs == 1)
    await until(lambda: bool(caplog.records))
    assert "again in 1:" in caplog.text, "an hour and its jitter"


async def test_it_looks_again_when_it_was_asked_to(make_queue: MakeQueue) -> None:
    runs = 0

    async def reconcile(_: Key) -> timedelta | None:
        nonlocal runs
        runs += 1
        return timedelta(milliseconds=5) if runs == 1 else None

    make_queue(reconcile).add(A)
    await until(lambda: runs == 2)
    await asyncio.sleep(0.02)
    assert runs == 2


async def test_an_interrupt_ends_pointless_work_and_looks_anew(make_queue: MakeQueue) -> None:
    message: list[str] = []

    async def reconcile(_: Key) -> None:
        message.append("began")
        if message.count("began") > 1:
            return
        try:
            await asyncio.sleep(60)
        finally:
            message.append("cleaned up")

    queue = make_queue(reconcile)
    queue.add(A)
    await until(lambda: message == ["began"])
    queue.interrupt(A)
    await until(lambda: message == ["began", "cleaned up", "began"])


async def test_an_interrupt_of_an_idle_key_starts_its_work(make_queue: MakeQueue) -> None:
    runs = []

    async def reconcile(key: Key) -> None:
        runs.append(key)

    make_queue(reconcile).interrupt(A)
    await until(lambda: runs == [A])


async def test_an_interrupt_before_the_work_began_still_looks(make_queue: MakeQueue) -> None:
    # A task that is cancelled before its first step never runs its body.
    runs = []

    async def reconcile(key: Key) -> None:
        runs.append(key)

    queue = make_queue(reconcile)
    queue.add(A)
    queue.interrupt(A)
    await until(lambda: runs == [A])


async def test_an_interrupt_reaches_a_key_that_waits_for_a_worker(make_queue: MakeQueue) -> None:
    busy, runs = asyncio.Event(), []

    async def reconcile(key: Key) -> None:
        if key == A:
            runs.append(key)
        else:
            await busy.wait()

    queue = make_queue(reconcile)
    for i in range(4):
        queue.add(Key("default", f"busy-{i}"))
    queue.add(A)
    await asyncio.sleep(0.01)
    queue.interrupt(A)
    await asyncio.sleep(0.01)
    assert runs == []
    busy.set()
    await until(lambda: runs == [A])


async def test_closing_waits_until_the_work_has_cleaned_up(make_queue: MakeQueue) -> None:
    message: list[str] = []

    async def reconcile(_: Key) -> None:
        message.append("began")
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            message.append("cleaned up")

    queue = make_queue(reconcile)
    queue.add(A)
    await until(lambda: message == ["began"])
    await queue.close()
    assert message == ["began", "cleaned up"]
    queue.add(A)
    queue.interrupt(B)
    await asyncio.sleep(0.01)
    assert message == ["began", "cleaned up"], "a closed queue takes nothing"


async def test_closing_forgets_retries(make_queue: MakeQueue) -> None:
    runs = 0

    async def reconcile(_: Key) -> timedelta:
        nonlocal runs
        runs += 1
        return timedelta(milliseconds=20)

    queue = make_queue(reconcile)
    queue.add(A)
    await until(lambda: runs == 1)
    await queue.close()
    await asyncio.sleep(0.05)
    assert runs == 1


async def test_what_was_put_off_is_reconciled_once_at_the_earliest_of_its_times(
    make_queue: MakeQueue,
) -> None:
    runs: list[float] = []
    began = time.monotonic()

    async def reconcile(_: Key) -> None:
        runs.append(time.monotonic() - began)

    queue = make_queue(reconcile)
    for milliseconds in (3_600_000, 50, 7_200_000):
        queue.add_later(A, timedelta(milliseconds=milliseconds))
    assert runs == []
    await until(lambda: bool(runs))
    assert runs[0] >= 0.049
    queue.add_later(A, timedelta(hours=1))
    queue.add(A)
    await until(lambda: len(runs) == 2)
