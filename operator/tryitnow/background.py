"""Concurrent and periodic work, with cancellation that cleans up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, NoReturn, ParamSpec, TypeVar

logger = logging.getLogger(__name__)

A = TypeVar("A")
B = TypeVar("B")
P = ParamSpec("P")


async def gather_or_cancel(
    first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]
) -> tuple[A, B]:
    """Run two coroutines at once; when one fails, cancel the other and wait for it.

    Unlike a TaskGroup it raises the failure as it is, not wrapped in a group.
    """
    tasks = asyncio.create_task(first), asyncio.create_task(second)
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        await _cancel(tasks)
        raise


async def gather_results(coroutines: Iterable[Coroutine[Any, Any, A]]) -> list[A]:
    """Run any number of coroutines at once; when one fails, cancel the others and wait for them."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        await _cancel(tasks)
        raise


async def uncancelled(awaitable: Awaitable[A]) -> A:
    """Finish the work; a cancellation takes effect when it is done.

    The result, an error included, does not undo the cancellation. Use it for cleaning up, and for
    other work that must not stay half done.
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
            work.exception()  # retrieved, or asyncio would log that it was not
        raise cancelled
    return work.result()


async def in_thread(function: Callable[P, A], *args: P.args, **kwargs: P.kwargs) -> A:
    """Run a blocking function in a thread; a cancellation waits for its end.

    ``asyncio.to_thread`` returns from a cancellation while its thread goes on. Use this one for
    functions that write.
    """
    return await uncancelled(asyncio.to_thread(function, *args, **kwargs))


async def happens(event: asyncio.Event, *, within_seconds: float) -> bool:
    """Wait for an event, but no longer than that; return whether it came."""
    try:
        async with asyncio.timeout(within_seconds):
            return await event.wait()
    except TimeoutError:
        return False


@asynccontextmanager
async def made_in_thread(make: Callable[[], A], remove: Callable[[A], None]) -> AsyncIterator[A]:
    """Make something in a thread, have it for the length of a block, and remove it in a thread.

    A cancellation in the middle of the making leaves nothing behind either.
    """
    made: list[A] = []
    try:
        await in_thread(lambda: made.append(make()))
        yield made[0]
    finally:
        for one in made:
            await in_thread(remove, one)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run_periodically(
    what: str,
    step: Callable[[], Awaitable[None]],
    *,
    pause_seconds: Callable[[], float],
    expected: tuple[type[Exception], ...],
    at_once: bool = True,
) -> NoReturn:
    """Run a step until cancelled, with a pause after each; a failed step does not end it.

    Args:
        what: The task in words, for log lines: "cannot {what}".
        step: The step.
        pause_seconds: Returns the length of each pause.
        expected: Errors that are logged in one line. Any other error is a bug of ours and is
            logged with its traceback. The next step runs all the same: a task that ended unseen
            would leave the program half alive.
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
