"""Work beside work: what is done at the same time, and what is done again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NoReturn, ParamSpec, TypeVar

logger = logging.getLogger(__name__)

A = TypeVar("A")
B = TypeVar("B")
P = ParamSpec("P")


async def together(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Do two things at once; when one fails, the other is cancelled, awaited, and forgotten.

    Unlike a TaskGroup it raises the failure as it is, not wrapped in a group.
    """
    tasks = asyncio.create_task(first), asyncio.create_task(second)
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        await _cancel(tasks)
        raise


async def all_together(coroutines: Iterable[Coroutine[Any, Any, A]]) -> list[A]:
    """Do any number of things of one kind at once, as ``together`` does two."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        await _cancel(tasks)
        raise


async def outcomes(coroutines: Iterable[Coroutine[Any, Any, A]]) -> list[A | BaseException]:
    """Do any number of things at once, whatever becomes of the others; return what became of each.

    Unlike ``gather`` it waits, when it is cancelled, until all have cleaned up.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks, return_exceptions=True)
    except asyncio.CancelledError:
        await _cancel(tasks)
        raise


async def to_its_end(awaitable: Awaitable[A]) -> A:
    """Do something whole; a cancellation comes to effect when it is done.

    What comes of it then, an error included, does not undo the cancellation. For cleaning up, and
    for whatever else must not stay half done.
    """
    work = asyncio.ensure_future(awaitable)
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not work.cancelled():
            work.exception()  # seen, so that asyncio does not complain that nobody saw it
        raise cancelled
    return work.result()


async def in_thread(function: Callable[P, A], *args: P.args, **kwargs: P.kwargs) -> A:
    """Do what blocks in a thread, to its end.

    Unlike ``asyncio.to_thread``, whose thread goes on behind the back of whoever cleans up when it
    is cancelled: for what writes.
    """
    return await to_its_end(asyncio.to_thread(function, *args, **kwargs))


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def keep_doing(
    what: str,
    step: Callable[[], Awaitable[None]],
    *,
    pause_seconds: Callable[[], float],
    expected: tuple[type[Exception], ...],
    at_once: bool = True,
) -> NoReturn:
    """Do a step until cancelled, with a pause after each; one that fails does not end it.

    Args:
        what: What cannot be done when a step fails, for log lines.
        step: What to do.
        pause_seconds: Asked before each pause how long it is to be.
        expected: Errors that are worth one line; any other is a bug of ours and is logged with
            its traceback. The next step is done all the same: a task that ended unseen would
            leave the program half alive.
        at_once: Whether the first step comes before the first pause.

    """
    if not at_once:
        await asyncio.sleep(pause_seconds())
    while True:
        try:
            await step()
        except expected as error:
            logger.warning("cannot %s: %s", what, error)
        except Exception:
            logger.exception("cannot %s: unexpected error", what)
        await asyncio.sleep(pause_seconds())
