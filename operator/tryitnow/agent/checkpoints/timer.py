"""One moment at which its owner looks again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timer:
    """Calls its owner at one moment at most: the earliest that was asked for."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._handle: asyncio.TimerHandle | None = None

    def wake_in(self, seconds: float) -> None:
        """Call in so many seconds, unless an earlier call is due already."""
        loop = asyncio.get_running_loop()
        at = loop.time() + max(seconds, 0)
        if self._handle is None or self._handle.when() > at:
            self.off()
            self._handle = loop.call_at(at, self._ring)

    def off(self) -> None:
        """Do not call."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self) -> None:
        self._handle = None
        self._act()
