"""Taking turns: as many at once as the node has cores, demos before what is done ahead of time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator


class Turns:
    """A semaphore with two queues, each first come, first served; the urgent one goes first."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._patient: deque[asyncio.Future[None]] = deque()
        self._pressing = 0

    @property
    def is_pressed(self) -> bool:
        """Whether somebody urgent has a turn or waits for one."""
        return self._pressing > 0

    @contextlib.asynccontextmanager
    async def turn(self, *, urgent: bool) -> AsyncIterator[None]:
        """Wait for a turn and hold it."""
        self._pressing += urgent
        try:
            if self._free:
                self._free -= 1
            else:
                await self._wait(self._urgent if urgent else self._patient)
            try:
                yield
            finally:
                self._pass_on()
        finally:
            self._pressing -= urgent

    async def _wait(self, queue: deque[asyncio.Future[None]]) -> None:
        mine = asyncio.get_running_loop().create_future()
        queue.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._pass_on()  # the turn was given in the moment of the cancellation
            raise

    def _pass_on(self) -> None:
        for queue in (self._urgent, self._patient):
            while queue:
                following = queue.popleft()
                if not following.done():  # who was cancelled is passed over
                    following.set_result(None)
                    return
        self._free += 1
