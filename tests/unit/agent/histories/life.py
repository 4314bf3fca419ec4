"""The life of an agent's process: killed, it does nothing more, not even clean up."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any

from tests.unit.virtual_time import LoneLoop


@dataclass(eq=False)
class Life:
    """One process. What it starts, and what that starts, belongs to it."""

    has_ended: bool = False
    tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)
    """In the order in which they were begun."""

    buried: list[asyncio.Task[Any]] = field(default_factory=list)
    """What it would have begun after its end."""

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Have the process do something."""
        context = contextvars.Context()
        context.run(LIFE.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    async def kill(self) -> None:
        """End it at once.

        Its tasks are cancelled, but whatever they do about that reaches nothing outside any more:
        ``expect_alive`` stands before each effect.
        """
        self.has_ended = True
        while self.tasks:
            for task in [*self.tasks, *self.buried]:
                task.cancel()  # what is buried as well: one that lives may wait for it
            await asyncio.sleep(0)


LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("LIFE", default=None)


def expect_alive() -> None:
    """Let only who lives have an effect.

    Raises:
        CancelledError: the process was killed.

    """
    life = LIFE.get()
    if life is not None and life.has_ended:
        raise asyncio.CancelledError


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


def _make_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    **options: Any,
) -> asyncio.Task[Any]:
    context: contextvars.Context | None = options.get("context")
    life = context.get(LIFE) if context is not None else LIFE.get()
    if life is not None and life.has_ended:
        # A callback begins something: who is dead begins nothing, and is not told that it ended.
        work.close()
        buried = asyncio.Task(_never(), loop=loop)
        life.buried.append(buried)
        return buried
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    if life is not None:
        life.tasks[task] = None
        task.add_done_callback(lambda _: life.tasks.pop(task))
    return task


def keep_lives(loop: LoneLoop) -> None:
    """Have a loop know whose each task is."""
    loop.set_task_factory(_make_task)
