"""A queue of object keys, as Kubernetes controllers use it: level-triggered, one at a time per key.

Kopf reports that something changed. The work always starts from the latest state.
A reconcile that fails is retried here. Delays after failures double, as in client-go's
``ItemExponentialFailureRateLimiter``, with jitter; an API server that asks for more time gets it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.api.meta import Key
from tryitnow.backoff import Pauses
from tryitnow.fair_turns import FairTurns
from tryitnow.metrics.instruments import Metrics, Reading
from tryitnow.metrics.program import QUEUE_KEYS, QUEUE_RETRIES, QUEUE_WAIT, QUEUE_WORK

logger = logging.getLogger(__name__)

RETRIES = Pauses(first=timedelta(milliseconds=200), last=timedelta(seconds=60))

Reconcile = Callable[[Key], Awaitable[timedelta | None]]
"""Bring one object to its desired state; returns the pause until the next time, if any."""


@dataclass
class _Entry:
    task: asyncio.Task[None] | None = None
    dirty: bool = False
    failures: int = 0
    timer: asyncio.TimerHandle | None = None
    again: timedelta | None = None
    working: bool = False

    @property
    def state(self) -> str | None:
        """The state of the key; None while it only waits for its next time."""
        if self.task is not None:
            return "working" if self.working else "waiting"
        return "failing" if self.failures else None


class WorkQueue:
    """Runs ``reconcile`` for every key that was added, never twice at once for the same key."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        *,
        expected: tuple[type[Exception], ...],
        concurrency: int = 64,
        metrics: Metrics | None = None,
    ) -> None:
        """Make a queue.

        Args:
            name: Name in log lines.
            reconcile: What to run.
            expected: Errors that are worth one line and a retry; any other is a bug of ours and
                is logged with its traceback (and retried as well: one broken object must not
                stop the others).
            concurrency: Most keys at work at the same time, fair by namespace.
            metrics: Where the queue is counted and timed, under its name.

        """
        self._name = name
        self._reconcile = reconcile
        self._expected = expected
        self._turns = FairTurns(concurrency)
        self._entries: dict[Key, _Entry] = {}
        self._metrics = metrics or Metrics()
        self._metrics.read_from(self._states)
        self._closed = False

    def add(self, key: Key) -> None:
        """Work on the key now, or again as soon as the present work has ended."""
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

    def add_later(self, key: Key, delay: timedelta) -> None:
        """Work on the key after a while, unless something starts the work before."""
        if self._closed:
            return
        entry = self._entries.setdefault(key, _Entry())
        if entry.task is not None:
            entry.dirty = True
            return
        at = asyncio.get_running_loop().time() + delay.total_seconds()
        if entry.timer is None or entry.timer.when() > at:
            if entry.timer is not None:
                entry.timer.cancel()
            self._add_later(key, entry, delay)

    def interrupt(self, key: Key) -> None:
        """Cancel the present work on the key, and start it again.

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
        due = time.monotonic()
        try:
            async with self._turns.turn(key.namespace):
                with self._instrumented(entry, due):
                    entry.again = await self._reconcile(key)
            entry.failures = 0
        except self._expected as error:
            self._metrics.count(QUEUE_RETRIES, queue=self._name, cause="expected")
            entry.again = self._next_retry(entry, error)
            logger.warning("%s %s: %s (again in %s)", self._name, key, error, entry.again)
        except Exception as error:
            # Not swallowed: logged as the bug that it is, and tried again with back-off.
            self._metrics.count(QUEUE_RETRIES, queue=self._name, cause="unexpected")
            entry.again = self._next_retry(entry, error)
            logger.exception("%s %s: unexpected error (again in %s)", self._name, key, entry.again)

    @contextmanager
    def _instrumented(self, entry: _Entry, due: float) -> Iterator[None]:
        began = time.monotonic()
        self._metrics.observe(QUEUE_WAIT, began - due, queue=self._name)
        entry.working = True
        try:
            yield
        finally:
            entry.working = False
            self._metrics.observe(QUEUE_WORK, time.monotonic() - began, queue=self._name)

    def _states(self) -> Iterator[Reading]:
        found = Counter(entry.state for entry in self._entries.values())
        for state in ("waiting", "working", "failing"):
            yield Reading(QUEUE_KEYS, found[state], (self._name, state))

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
    def _next_retry(entry: _Entry, error: Exception) -> timedelta:
        entry.failures += 1
        return RETRIES.after_error(entry.failures, error)

    async def drain(self, within: timedelta) -> None:
        """Begin nothing more, and let what is at work finish, for so long at most; then close."""
        self._closed = True
        at_work = [
            entry.task
            for entry in self._entries.values()
            if entry.task is not None and entry.working
        ]
        for entry in self._entries.values():
            if entry.task is not None and not entry.working:
                entry.task.cancel()
        if at_work:
            await asyncio.wait(at_work, timeout=within.total_seconds())
        await self.close()

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
