"""An event loop whose clock jumps to the next timer: tests of seconds take none."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Passes the time that it should wait for instead of waiting."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            msg = "nothing is due any more, and no real event is waited for: the test hangs"
            raise AssertionError(msg)
        if not ready and timeout:
            self.passed += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.passed


def in_virtual_time(test: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(test)


ROUND_SECONDS = 1e-9


class _Deaf(_Selector):
    """Has nothing to listen to: nothing real happens in its loop."""

    MOST_ROUNDS = 20_000
    """Rounds of the loop in one moment; more of them are work that goes on for ever."""

    def __init__(self) -> None:
        super().__init__()
        self._rounds = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            msg = "nothing is due any more: the test hangs"
            raise AssertionError(msg)
        self._rounds = 0 if timeout > 0 else self._rounds + 1
        if self._rounds > self.MOST_ROUNDS:
            self._rounds = 0
            msg = "something is done again and again, and no time passes"
            raise AssertionError(msg)
        # A clock goes on whatever is done: who waits until it has would wait for ever.
        self.passed += max(timeout, ROUND_SECONDS)
        return []


class LoneLoop(asyncio.SelectorEventLoop):
    """A loop of virtual time in which nothing real happens: no sockets, no threads.

    What is done in a thread elsewhere is done here by the loop itself, all of it at one moment, a
    little later (``thread_seconds``). So a history depends on its seed alone.
    """

    def __init__(self) -> None:
        self._virtual = _Deaf()
        super().__init__(self._virtual)
        self.thread_seconds: Callable[[], float] = lambda: 0.0
        self.in_thread: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda work: work
        """Called right before something is done in a thread; returns what is done instead. What it
        raises comes of it."""

    def time(self) -> float:
        return self._virtual.passed

    def run_in_executor(  # type: ignore[override] # its result is typed by a variable tuple
        self,
        executor: Executor | None,  # noqa: ARG002
        func: Callable[..., T],
        *args: Any,
    ) -> asyncio.Future[T]:
        done = self.create_future()

        def work() -> None:
            try:
                result = self.in_thread(func)(*args)
            except BaseException as error:  # noqa: BLE001 - it is handed on, as a thread does
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)

        self.call_later(self.thread_seconds(), work)
        return done
