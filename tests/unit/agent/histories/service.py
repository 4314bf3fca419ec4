"""How a Podman of a history is asked, and what goes wrong with its calls.

It is a process of its own: what it was asked to do goes on when whoever asked is killed, and who
asked hears nothing when it is killed itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.unit.agent.histories.life import LIFE, expect_alive
from tests.unit.fakes import FakePodman, Running
from tryitnow.podman.errors import PodmanBusyError, PodmanUnreachableError

T = TypeVar("T")

HANG_SECONDS = 60.0
"""After that long, Podman's client gives up (``podman.calls.CALL_SECONDS``)."""

_AGENT_WORKS_IN = frozenset({"build image", "checkpoint", "look into"})
"""Calls in the middle of which the agent reads and writes files: they end with it."""

_READS = frozenset(
    {
        "environment", "has_image", "image_tags", "info", "inspect", "inspect pod", "list",
        "list pods", "logs", "pid", "ping",
    }
)  # fmt: skip
"""Calls that change nothing: whether they go on without the one who asked is no matter."""


@dataclass
class Trouble:
    """What goes wrong with some of the calls, as long as it is there."""

    calls: Collection[str] = ()
    """Names of the calls; all where there is none."""

    error: Callable[[], Exception] | None = None
    """What is raised instead of doing it."""

    seconds: float = 0.0
    """How much longer it takes."""

    hangs: bool = False
    breaks_off: bool = False
    """Whether the connection breaks after it was done."""

    share: float = 1.0
    """Part of the calls that it befalls."""


class Service(FakePodman):
    """The service that answers calls."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        super().__init__("127.0.0.1", directory)
        self.chance = chance
        self.troubles: list[Trouble] = []
        self._context = contextvars.Context()
        self._in_flight: dict[asyncio.Task[object], str] = {}
        self._kills = 0
        self._locks: dict[str, asyncio.Lock] = {}

    def family_of(self, running: Running) -> str:
        """Return the name of a container's pod, whose members have one lock here."""
        return next((pod.name for pod in self.pods.values() if pod.id == running.state.pod), "")

    def is_killed(self) -> None:
        """Have the service killed, and started again: who waits for an answer gets none."""
        self._kills += 1
        for task, call in list(self._in_flight.items()):
            name = call.partition(" tryitnow")[2]
            task.cancel()
            if call.startswith("create") and self.chance.random() < 0.5 and "pod" not in call:
                self.ghosts.append(f"tryitnow{name}")
        self.ghosts = [name for name in dict.fromkeys(self.ghosts) if name not in self._containers]

    async def _do(
        self, call: str, name: str, work: Callable[[], Awaitable[T]], *, lets_go: bool = False
    ) -> T:
        expect_alive()
        if call in _READS:
            return await self._read(call, name, work)
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._serve(call, name, work), context=self._context)
        self._in_flight[task] = f"{call} {name}"
        task.add_done_callback(lambda _: self._in_flight.pop(task))
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
                life = LIFE.get()
                is_dead = life is not None and life.has_ended
                if call in _AGENT_WORKS_IN or (lets_go and self.chance.random() < 0.5):
                    task.cancel()
                if is_dead or (lets_go and call not in _AGENT_WORKS_IN):
                    task.add_done_callback(_forget)
                    raise
        if cancelled is not None:
            _forget(task)
            raise cancelled
        if task.cancelled():
            msg = f"Podman broke off: {call} {name}"
            raise PodmanUnreachableError(msg)
        return task.result()

    async def _read(self, call: str, name: str, work: Callable[[], Awaitable[T]]) -> T:
        before = self._kills
        result = await self._serve(call, name, work)
        expect_alive()
        if before != self._kills:
            msg = f"Podman broke off: {call} {name}"
            raise PodmanUnreachableError(msg)
        return result

    async def _serve(self, call: str, name: str, work: Callable[[], Awaitable[T]]) -> T:
        trouble = next((t for t in self.troubles if not t.calls or call in t.calls), None)
        if trouble is not None and self.chance.random() > trouble.share:
            trouble = None
        async with self._turn(name):
            await asyncio.sleep(self.chance.random() * 0.03)
            if trouble is not None:
                await asyncio.sleep(HANG_SECONDS if trouble.hangs else trouble.seconds)
                if trouble.hangs:
                    msg = f"Podman is busy: {call} {name}"
                    raise PodmanBusyError(msg)
                if trouble.error is not None:
                    raise trouble.error()
            result = await work()
            if trouble is not None and trouble.breaks_off:
                msg = f"Podman broke off: {call} {name}"
                raise PodmanUnreachableError(msg)
            return result

    @contextlib.asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of a container's pod, or of the container."""
        running = self._containers.get(name)
        key = (self.family_of(running) if running is not None else "") or name
        if not key.startswith("tryitnow_") or key.endswith("_"):
            yield
            return
        async with self._locks.setdefault(key, asyncio.Lock()):
            yield


def _forget(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()
