"""Taking turns: as many at once as the node has cores, demos before what is done ahead of time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

AGED_SECONDS = 2.0
"""After that long, low priority gets every ``AGED_SHARE``-th turn. Without it, steady demand would
keep a warm pool empty for ever, and each demo would need a restore of its own."""

AGED_SHARE = 3


@dataclass(frozen=True)
class _Waiter:
    future: asyncio.Future[None]
    since: float


class PrioritySemaphore:
    """A semaphore with two queues, each first come, first served; the high one goes first."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._high: deque[_Waiter] = deque()
        self._low: deque[_Waiter] = deque()
        self._pressing = 0
        self._given = 0

    @property
    def has_high_priority(self) -> bool:
        """Whether somebody with high priority has a turn or waits for one."""
        return self._pressing > 0

    @contextlib.asynccontextmanager
    async def turn(self, *, urgent: bool) -> AsyncIterator[None]:
        """Wait for a turn and hold it."""
        self._pressing += urgent
        try:
            if self._free:
                self._free -= 1
            else:
                await self._wait(self._high if urgent else self._low)
            try:
                yield
            finally:
                self._pass_on()
        finally:
            self._pressing -= urgent

    async def _wait(self, queue: deque[_Waiter]) -> None:
        mine = asyncio.get_running_loop().create_future()
        queue.append(_Waiter(mine, asyncio.get_running_loop().time()))
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._pass_on()  # the turn was given in the moment of the cancellation
            raise

    def _pass_on(self) -> None:
        self._given += 1
        queues = (self._high, self._low)
        if self._given % AGED_SHARE == 0 and self._is_aged():
            queues = (self._low, self._high)
        for queue in queues:
            while queue:
                following = queue.popleft().future
                if not following.done():  # who was cancelled is passed over
                    following.set_result(None)
                    return
        self._free += 1

    def _is_aged(self) -> bool:
        now = asyncio.get_running_loop().time()
        waiting = (waiter for waiter in self._low if not waiter.future.done())
        return any(now - waiter.since >= AGED_SECONDS for waiter in waiting)


class ShortTurns:
    """Turns that are given back after a while, also when the work goes on.

    For starts after a crash or a reboot: a few at once, so that all get ready soon; and one that
    hangs holds up no other.
    """

    def __init__(self, at_once: int, longest_seconds: float) -> None:
        self._semaphore = asyncio.Semaphore(at_once)
        self._longest_seconds = longest_seconds

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it for the block or the longest time."""
        await self._semaphore.acquire()
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if not given_back:
                given_back = True
                self._semaphore.release()

        timer = asyncio.get_running_loop().call_later(self._longest_seconds, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()
