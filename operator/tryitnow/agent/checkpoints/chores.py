"""Work that an actor has done and does not wait for: making what waits, removing what is unneeded.

Each piece ends by itself. What it leaves when it fails is found as what nobody owns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from tryitnow.agent.checkpoints.failures import EXPECTED

logger = logging.getLogger(__name__)


class Chores:
    """The work that one owner has under way."""

    def __init__(self, owner: str) -> None:
        """Begin without any; ``owner`` is its name in log lines."""
        self._owner = owner
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have a piece of work done; it never fails, and who waits for it need not wait on."""
        task = asyncio.create_task(self._done(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # broken off before it began
        return task

    async def _done(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except EXPECTED as error:
            logger.warning("%s: %s", self._owner, error)
        except Exception:
            logger.exception("%s: unexpected error", self._owner)

    async def finish(self) -> None:
        """Wait until all of it has ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cancel(self) -> None:
        """Break all of it off, and wait until it has cleaned up."""
        for task in self._tasks:
            task.cancel()
        await self.finish()
