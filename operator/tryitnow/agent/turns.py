"""Taking turns: as many at once as the node has cores, demos before what is done ahead of time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tryitnow.fair_turns import FairQueue, FairTurns

HEAD_START_SECONDS = 2.0
"""What can wait goes after all that is urgent and came up to that long after it. A burst of demos,
which comes at once, is served as if there were nothing else to do. Steady demand does not keep a
warm pool empty for ever, where each demo would need a restore of its own."""


class PrioritySemaphore:
    """A semaphore with two queues, each fair by namespace.

    The high one has a head start (``HEAD_START_SECONDS``), and never waits for two of the low one.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._high = FairQueue()
        self._low = FairQueue()
        self._pressing = 0
        self._low_was_last = False

    @property
    def has_high_priority(self) -> bool:
        """Whether somebody with high priority has a turn or waits for one."""
        return self._pressing > 0

    @contextlib.asynccontextmanager
    async def turn(self, namespace: str, *, urgent: bool) -> AsyncIterator[None]:
        """Wait for a turn and hold it."""
        self._pressing += urgent
        try:
            if self._free:
                self._free -= 1
            else:
                await self._wait(self._high if urgent else self._low, namespace)
            try:
                yield
            finally:
                self._pass_on()
        finally:
            self._pressing -= urgent

    async def _wait(self, queue: FairQueue, namespace: str) -> None:
        mine = queue.add(namespace).future
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._pass_on()  # the turn was given in the moment of the cancellation
            raise

    def _pass_on(self) -> None:
        for queue in (self._high, self._low):
            queue.forget_gone()
        if not self._high and not self._low:
            self._free += 1
            return
        self._low_was_last = self._is_low_next()
        queue = self._low if self._low_was_last else self._high
        waiter = queue.take()
        assert waiter is not None
        waiter.future.set_result(None)

    def _is_low_next(self) -> bool:
        if not self._low or not self._high:
            return bool(self._low)
        is_due = self._low.oldest_since + HEAD_START_SECONDS <= self._high.oldest_since
        return is_due and not self._low_was_last


class ShortTurns:
    """Turns that are given back after a while, also when the work goes on.

    For starts after a crash or a reboot: a few at once, so that all get ready soon; and one that
    hangs holds up no other.
    """

    def __init__(self, at_once: int, longest_seconds: float) -> None:
        self._turns = FairTurns(at_once)
        self._longest_seconds = longest_seconds

    @contextlib.asynccontextmanager
    async def turn(self, namespace: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it for the block or the longest time."""
        await self._turns.acquire(namespace)
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if not given_back:
                given_back = True
                self._turns.release(namespace)

        timer = asyncio.get_running_loop().call_later(self._longest_seconds, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()
