"""Turns that are fair by namespace: so many at once, and the namespaces one after the other.

What many namespaces share is given to each in turn, however much one of them asks for. Within a
namespace, first come is first served.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Container
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiter:
    """Somebody who waits for a turn."""

    namespace: str
    future: asyncio.Future[None]
    since: float


class FairQueue:
    """Those who wait, by namespace. The namespace that was served last comes last."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Waiter]] = {}

    def __bool__(self) -> bool:
        """Whether anybody waits, as of the last ``forget_gone``."""
        return bool(self._waiting)

    @property
    def oldest_since(self) -> float:
        """Since when the oldest has waited; there must be one."""
        return min(waiting[0].since for waiting in self._waiting.values())

    def add(self, namespace: str) -> Waiter:
        """Wait from now on; whoever serves the queue sets the result of the future."""
        loop = asyncio.get_running_loop()
        waiter = Waiter(namespace, loop.create_future(), loop.time())
        self._waiting.setdefault(namespace, deque()).append(waiter)
        return waiter

    def forget_gone(self) -> None:
        """Pass over those at the heads of their namespaces who gave up."""
        for namespace, waiting in list(self._waiting.items()):
            while waiting and waiting[0].future.done():
                waiting.popleft()
            if not waiting:
                del self._waiting[namespace]

    def take(self, *, but: Container[str] = ()) -> Waiter | None:
        """Take out who is next: of the namespace whose last turn is the longest ago."""
        namespace = next((name for name in self._waiting if name not in but), None)
        if namespace is None:
            return None
        waiting = self._waiting.pop(namespace)
        waiter = waiting.popleft()
        if waiting:
            self._waiting[namespace] = waiting
            self.forget_gone()
        return waiter


class FairTurns:
    """A semaphore that is fair by namespace.

    A turn may last for an hour, such as a build whose application never answers. So one namespace
    that holds all turns does not shut the others out: the next namespace gets one turn more. A
    single turn stays a single one.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._held: Counter[str] = Counter()
        self._waiting = FairQueue()

    @contextlib.asynccontextmanager
    async def turn(self, namespace: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it for the block."""
        await self.acquire(namespace)
        try:
            yield
        finally:
            self.release(namespace)

    async def acquire(self, namespace: str) -> None:
        """Wait for a turn; it is held until ``release``."""
        waiter = self._waiting.add(namespace)
        self._hand_out()
        try:
            await waiter.future
        except asyncio.CancelledError:
            if not waiter.future.cancelled():
                self.release(namespace)  # it was given in the moment of the cancellation
            raise

    def release(self, namespace: str) -> None:
        """Give a turn of the namespace back."""
        self._held[namespace] -= 1
        self._held += Counter()  # drops those that hold none
        self._hand_out()

    def _hand_out(self) -> None:
        self._waiting.forget_gone()
        while (waiter := self._next()) is not None:
            self._held[waiter.namespace] += 1
            waiter.future.set_result(None)

    def _next(self) -> Waiter | None:
        held = self._held.total()
        if held < self._at_once:
            return self._waiting.take()
        if held == self._at_once > 1 and len(self._held) == 1:
            return self._waiting.take(but=self._held)
        return None
