"""A queue of object keys, as Kubernetes controllers use it: level-triggered, one at a time per key.

Kopf tells that something changed; what to do about it is always found anew from the latest state.
Retries live here and nowhere else. Delays after failures double, as in client-go's
``ItemExponentialFailureRateLimiter``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.api.meta import Key

logger = logging.getLogger(__name__)

FIRST_RETRY = timedelta(milliseconds=200)
LAST_RETRY = timedelta(seconds=60)

Reconcile = Callable[[Key], Awaitable[timedelta | None]]
"""Bring one object to its desired state; returns after what time to look again, if at all."""


@dataclass
class _Entry:
    task: asyncio.Task[None] | None = None
    dirty: bool = False
    failures: int = 0
    timer: asyncio.TimerHandle | None = None
    again: timedelta | None = None


class WorkQueue:
    """Runs ``reconcile`` for every key that was added, never twice at once for the same key."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        *,
        expected: tuple[type[Exception], ...],
        concurrency: int = 64,
    ) -> None:
        """Make a queue.

        Args:
            name: Name in log lines.
            reconcile: What to run.
            expected: Errors that are worth one line and a retry; any other is a bug of ours and
                is logged with its traceback (and retried as well: one broken object must not
                stop the others).
            concurrency: Most keys at work at the same time.

        """
        self._name = name
        self._reconcile = reconcile
        self._expected = expected
        self._slots = asyncio.Semaphore(concurrency)
        self._entries: dict[Key, _Entry] = {}
        self._closed = False

    def add(self, key: Key) -> None:
        """Have the key looked at now, or again as soon as the present look has ended."""
        if self._closed:
            return
        entry = self._entries.setdefault(key, _Entry())
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        if entry.task is not None:
            entry.dirty = True
            return
        entry.again = None
        entry.task = asyncio.create_task(self._work(key, entry), name=f"{self._name} {key}")
        # Not at the end of the work itself: work that is cancelled before its first step never
        # gets there.
        entry.task.add_done_callback(lambda _: self._ended(key, entry))

    def interrupt(self, key: Key) -> None:
        """Cancel what is being done for the key, and look at it anew.

        For changes that make the present work pointless, such as a deletion.
        """
        entry = self._entries.get(key)
        if entry is not None and entry.task is not None:
            entry.dirty = True
            entry.task.cancel()
        else:
            self.add(key)

    def _add_later(self, key: Key, entry: _Entry, delay: timedelta) -> None:
        loop = asyncio.get_running_loop()
        entry.timer = loop.call_later(delay.total_seconds(), self.add, key)

    async def _work(self, key: Key, entry: _Entry) -> None:
        try:
            async with self._slots:
                entry.again = await self._reconcile(key)
            entry.failures = 0
        except self._expected as error:
            entry.again = self._next_retry(entry)
            logger.warning("%s %s: %s (again in %s)", self._name, key, error, entry.again)
        except Exception:
            # Not swallowed: logged as the bug that it is, and tried again with back-off.
            entry.again = self._next_retry(entry)
            logger.exception("%s %s: unexpected error (again in %s)", self._name, key, entry.again)

    def _ended(self, key: Key, entry: _Entry) -> None:
        entry.task = None
        if self._closed:
            return
        if entry.dirty:
            entry.dirty = False
            self.add(key)
        elif entry.again is not None:
            self._add_later(key, entry, entry.again)
        else:
            del self._entries[key]

    @staticmethod
    def _next_retry(entry: _Entry) -> timedelta:
        delay: timedelta = min(FIRST_RETRY * (1 << min(entry.failures, 20)), LAST_RETRY)
        entry.failures += 1
        return delay

    async def close(self) -> None:
        """Cancel all work and wait until it has cleaned up after itself."""
        self._closed = True
        tasks = []
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
            if entry.task is not None:
                entry.task.cancel()
                tasks.append(entry.task)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._entries.clear()
