"""Every call to Podman: in a thread, timed, its errors translated.

``podman.PodmanClient`` has no calls for checkpoint and restore, so its ``APIClient`` is used on
the endpoints themselves (``/libpod/containers/{name}/checkpoint`` and ``…/restore``).

Podman holds a container's lock while it works on that container, for seconds or minutes. So three
rules keep one call from holding up another:

- Quick calls, slow calls and removals have threads of their own.
- Calls that need a container's lock wait for each other here, where waiting costs no thread.
- A slow call that is cancelled closes its connection and ends at once. What Podman still does then
  ends under the container's lock, before a ``remove`` that follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import requests
from podman.errors import APIError
from podman.errors import PodmanError as PodmanPyError
from urllib3.exceptions import HTTPError

from tryitnow.background import uncancelled
from tryitnow.metrics.instruments import Metrics
from tryitnow.podman.apart import Apart
from tryitnow.podman.errors import PodmanBusyError, PodmanUnreachableError
from tryitnow.podman.instrumented import instrumented
from tryitnow.podman.session import Session
from tryitnow.podman.translate import translate
from tryitnow.settings import PodmanSettings

T = TypeVar("T")

CALL_SECONDS = 60.0
"""For a call that only touches local state; measured in milliseconds, seconds under load."""

CHECKPOINT_SECONDS = 600.0
"""For a checkpoint or a restore; 1 to 2 s for a 700 MB application, proportional to its memory.
A removal may have to wait for one that was cancelled."""

_QUICK_THREADS = 64
_REMOVAL_THREADS = 32
"""Calls at once. A thread that waits for Podman costs no core; it is made when it is needed."""

_SLOW_THREADS = 1024
"""More than a node has containers: its callers limit the slow calls, each kind in its own way."""

LISTING_TRIES = 5
"""Of a listing in which something went away: each takes milliseconds, and as many removals in a row
that each hit one are rare."""

_GONE = re.compile(r"no (such )?(container|pod)\b", re.IGNORECASE)

LISTING = "(containers)"
"""What listings of containers wait for: Podman takes the lock of each container that it lists."""


class Calls:
    """A door to Podman's service on this node."""

    def __init__(self, settings: PodmanSettings, metrics: Metrics | None = None) -> None:
        self._socket = settings.socket
        self._metrics = metrics or Metrics()
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, thread_name_prefix="podman")
        self._removals = ThreadPoolExecutor(_REMOVAL_THREADS, thread_name_prefix="podman-remove")
        self._slow = ThreadPoolExecutor(_SLOW_THREADS, thread_name_prefix="podman-slow")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._apart = Apart()

    def close(self) -> None:
        """Wait for calls under way, then let the threads go."""
        for threads in (self._quick, self._removals, self._slow):
            threads.shutdown()

    async def _run(self, call: Callable[[Any], T], *, on: str = "") -> T:
        """Run a quick call, to its end.

        When the caller is cancelled, the call is awaited all the same: a container that Podman
        is still starting must be there to be removed, or nobody would remove it.

        Args:
            call: What to ask; its argument is podman-py's client.
            on: What it needs the lock of: a container's or a pod's name.

        """
        return await self._uncancelled(self._quick, call, on)

    async def _run_removal(self, call: Callable[[Any], T], *, on: str) -> T:
        """Run a removal, to its end: it may have to wait for whatever holds the lock."""
        return await self._uncancelled(self._removals, call, on)

    async def _run_whole(self, call: Callable[[Any], T], *, on: str = "") -> T:
        """Run a slow call that must not stay half done, to its end."""
        return await self._uncancelled(self._slow, call, on)

    async def _run_slow(self, call: Callable[[Any], T], *, on: str = "") -> T:
        """Run a slow call; when the caller is cancelled, the connection is closed.

        The thread has ended when this returns, so nothing is written behind the caller's back.
        """
        session = Session(self._socket)
        with instrumented(self._metrics, call):
            async with self._turn(on):
                work = self._submit(self._slow, session, call)
                try:
                    await asyncio.wait({work})
                except asyncio.CancelledError:
                    session.hang_up()
                    await ended(work)
                    raise
                return work.result()

    async def _uncancelled(self, threads: Executor, call: Callable[[Any], T], on: str) -> T:
        with instrumented(self._metrics, call):
            async with self._turn(on):
                return await uncancelled(self._submit(threads, Session(self._socket), call))

    def _submit(
        self, threads: Executor, session: Session, call: Callable[[Any], T]
    ) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(threads, self._guarded, session, call)

    @contextlib.asynccontextmanager
    async def _turn(self, on: str) -> AsyncIterator[None]:
        if not on:
            yield
            return
        # Kept as long as somebody waits for it or has it.
        turn = self._turns.setdefault(on, asyncio.Lock())
        async with turn:
            yield

    def _guarded(self, session: Session, call: Callable[[Any], T]) -> T:
        try:
            with session:
                return call(session.api)
        except APIError as error:
            if is_answer(error):
                raise translate(error) from error
            raise self._unreachable(error) from error
        except (requests.RequestException, HTTPError, PodmanPyError) as error:
            # A RequestException is an OSError. Any other OSError is not Podman's: it comes from
            # what a caller does with an archive, and is the caller's to understand.
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> PodmanUnreachableError:
        cause = _innermost(error)
        if isinstance(cause, TimeoutError):
            return PodmanBusyError(
                f"Podman at {self._socket} did not answer in time: it is busy, or another "
                "operation holds that container; the agent asks again"
            )
        return PodmanUnreachableError(
            f"Podman does not answer at {self._socket}: {cause}; "
            "see the log of the container podman of the agent's Pod"
        )


async def ended(work: asyncio.Future[Any]) -> None:
    """Wait until a call is over, and ignore its result."""
    await uncancelled(asyncio.wait({work}))
    if not work.cancelled():
        work.exception()


def act(api: Any, container: str, verb: str, **params: Any) -> None:  # noqa: ANN401
    """Have something done to a container."""
    path = f"/containers/{container}/{verb}"
    api.post(path, params=params, timeout=CALL_SECONDS).raise_for_status()


def ask(api: Any, path: str, **params: object) -> Any:  # noqa: ANN401
    """Return what Podman says at a path."""
    answer = api.get(path, params=params, timeout=CALL_SECONDS)
    answer.raise_for_status()
    return answer.json()


def ask_list(api: Any, path: str, **params: object) -> list[Any]:  # noqa: ANN401
    """Return what Podman lists at a path.

    It reads one after the other, and fails as a whole where one of them goes meanwhile: the next
    listing does not have that one.
    """
    for _ in range(LISTING_TRIES):
        answer = api.get(path, params=params, timeout=CALL_SECONDS)
        if answer.ok or not _GONE.search(answer.text):
            break
    answer.raise_for_status()
    return answer.json() or []


def ask_if_there(api: Any, path: str) -> Any | None:  # noqa: ANN401
    """Return what Podman says of one object; None when there is none of that name."""
    answer = api.get(path, timeout=CALL_SECONDS)
    if answer.status_code == requests.codes.not_found:
        return None
    answer.raise_for_status()
    return answer.json()


def delete_if_there(api: Any, path: str, **params: object) -> None:  # noqa: ANN401
    """Have an object removed, which may have to wait for its lock; fine when there is none."""
    answer = api.delete(path, params=params, timeout=CHECKPOINT_SECONDS)
    if answer.status_code != requests.codes.not_found:
        answer.raise_for_status()


def pid_of(api: Any, container: str) -> int:  # noqa: ANN401
    """Ask for a container's process ID on the node; 0 when it does not run."""
    return int(ask(api, f"/containers/{container}/json")["State"].get("Pid", 0))


def is_answer(error: APIError) -> bool:
    """Whether Podman itself refused."""
    # podman-py makes an APIError of a broken connection as well, but without a response.
    return error.response is not None


def _innermost(error: BaseException) -> BaseException:
    # Three libraries wrap it, and each hides a little more of "No such file or directory".
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error
