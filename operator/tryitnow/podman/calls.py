"""How every call reaches Podman: on threads of its own, measured, its errors translated.

``podman.PodmanClient`` has no calls for checkpoint and restore, so its ``APIClient`` is used on
the endpoints themselves (``/libpod/containers/{name}/checkpoint`` and ``…/restore``).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import requests
from podman.errors import APIError, NotFound
from podman.errors import PodmanError as PodmanPyError

from tryitnow.background import to_its_end
from tryitnow.metrics.instruments import Metrics
from tryitnow.podman.criu_log import log_tail
from tryitnow.podman.errors import (
    CRIUError,
    NoSuchContainerError,
    PodmanError,
    PodmanUnreachableError,
)
from tryitnow.podman.measured import measured
from tryitnow.podman.session import open_session
from tryitnow.settings import PodmanSettings

T = TypeVar("T")

CALL_SECONDS = 60.0
"""For a call that only touches local state; measured in milliseconds, seconds under load."""

FREEZE_SECONDS = 600.0
"""For a freeze or a thaw; 1 to 2 s for a 700 MB application, proportional to its memory."""

_THREADS = 32
"""Calls at once. A thread that waits for Podman costs no core."""


class Calls:
    """A door to Podman's service on this node."""

    def __init__(self, settings: PodmanSettings, metrics: Metrics | None = None) -> None:
        self._socket = settings.socket
        self._metrics = metrics or Metrics()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="podman")
        self._local = threading.local()
        self._open = contextlib.ExitStack()

    def close(self) -> None:
        """Wait for calls under way, then let the threads and their connections go."""
        self._pool.shutdown()
        self._open.close()

    def _session(self) -> Any:  # noqa: ANN401 - podman-py ships no types
        # A requests session is not safe to share between threads.
        if not hasattr(self._local, "session"):
            self._local.session = self._open.enter_context(open_session(self._socket))
        return self._local.session

    async def _run(self, call: Callable[[Any], T]) -> T:
        """Run a blocking call in a thread.

        When the caller is cancelled, the call is awaited all the same: a container that Podman
        is still making must be there to be removed, or nobody would remove it.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, self._guarded, call)
        with measured(self._metrics, call):
            return await to_its_end(future)

    def _guarded(self, call: Callable[[Any], T]) -> T:
        try:
            return call(self._session())
        except NotFound as error:
            raise NoSuchContainerError(text_of(error)) from error
        except APIError as error:
            if is_answer(error):
                raise _translate(error) from error
            raise self._unreachable(error) from error
        except (requests.RequestException, PodmanPyError) as error:
            # A RequestException is an OSError. Any other OSError is not Podman's: it comes from
            # what a caller does with an archive, and is the caller's to understand.
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> PodmanUnreachableError:
        return PodmanUnreachableError(
            f"Podman does not answer at {self._socket}: {_innermost(error)}; "
            "look into the log of the container podman of the agent's Pod"
        )


def act(api: Any, container: str, verb: str, **params: Any) -> None:  # noqa: ANN401
    """Have something done to a container."""
    path = f"/containers/{container}/{verb}"
    api.post(path, params=params, timeout=CALL_SECONDS).raise_for_status()


def pid_of(api: Any, container: str) -> int:  # noqa: ANN401
    """Ask for a container's process ID on the node; 0 when it does not run."""
    answer = api.get(f"/containers/{container}/json", timeout=CALL_SECONDS)
    answer.raise_for_status()
    return int(answer.json()["State"].get("Pid", 0))


def is_answer(error: APIError) -> bool:
    """Whether Podman itself refused."""
    # podman-py makes an APIError of a broken connection as well, but without a response.
    return error.response is not None


def _innermost(error: BaseException) -> BaseException:
    # Three libraries wrap it, and each hides a little more of "No such file or directory".
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def text_of(error: APIError) -> str:
    """Return Podman's own words."""
    return str(error.explanation or error)


def _translate(error: APIError) -> PodmanError:
    text = text_of(error)
    tail = log_tail(text)
    if tail or "criu" in text.lower():
        return CRIUError(text, tail)
    return PodmanError(text)
