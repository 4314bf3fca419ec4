"""Checkpoints and restores of containers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from tryitnow.api.definition import CRIUOptions, TCPPolicy
from tryitnow.background import uncancelled
from tryitnow.podman.apart import Kind
from tryitnow.podman.calls import CHECKPOINT_SECONDS, ask
from tryitnow.podman.containers import Containers
from tryitnow.podman.criu_log import CRIULog, read_log
from tryitnow.podman.errors import CRIUError, PodmanError, PodmanFailure, PodmanUnreachableError
from tryitnow.podman.translate import explained

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CHUNK_BYTES = 1 << 20


class Checkpointing(Containers):
    """Containers that are checkpointed and restored."""

    async def checkpoint(
        self, name: str, options: CRIUOptions, consume: Callable[[Iterator[bytes]], T]
    ) -> T:
        """Checkpoint a running container and hand its export (a plain tar) to ``consume``.

        The container is stopped afterwards. ``consume`` runs in a thread; a cancellation ends its
        iterator with an error. What the container changed of its image's files is not in the
        export (``Layers.with_roots`` shows them).

        Raises:
            CRIUError: CRIU refused; the message ends with the tail of its log.
            OSError: ``consume`` raised it; so with any other exception of its own.

        """

        def call(api: Any) -> T:  # noqa: ANN401
            params = {
                "export": True,
                "ignoreRootFS": True,
                # Without it CRIU refuses a container with any open connection; what becomes of
                # the connections is decided at the restore (podman-container-checkpoint(1)).
                "tcpEstablished": True,
                "fileLocks": options.file_locks,
            }
            path = f"/containers/{name}/checkpoint"
            with contextlib.closing(
                api.post(path, params=params, stream=True, timeout=CHECKPOINT_SECONDS)
            ) as answer:
                answer.raise_for_status()
                return consume(answer.iter_content(_CHUNK_BYTES))

        async with self._apart.during(Kind.CHECKPOINT):
            try:
                return await self._explained(name, "dump", self._run_slow(call, on=name))
            except (asyncio.CancelledError, PodmanUnreachableError):
                await uncancelled(self._wait_over(name))
                raise

    async def _wait_over(self, name: str) -> None:
        """Wait until Podman is through with a checkpoint that nobody waits for any more.

        It holds the container's lock until then. A removal of the pod before that would hold up
        both for ever (``apart``).
        """

        def call(api: Any) -> None:  # noqa: ANN401
            api.get(f"/containers/{name}/json", timeout=CHECKPOINT_SECONDS)

        try:
            await self._run_slow(call)
        except (PodmanError, PodmanUnreachableError) as error:
            logger.warning("%s: what Podman does with it is not known: %s", name, error)

    async def restore(self, name: str, options: CRIUOptions) -> timedelta:
        """Restore a stopped container from the images beside it; returns what CRIU took of it.

        The images stay. What is left of the container when it fails is the caller's to remove. So
        is what Podman makes of it after a cancellation: ``remove`` waits for that.

        Raises:
            CRIUError: the restore failed.

        """

        def call(api: Any) -> timedelta:  # noqa: ANN401
            is_established = options.tcp is TCPPolicy.ESTABLISHED
            params = {
                "printStats": True,
                "keep": True,
                "fileLocks": options.file_locks,
                "tcpClose": not is_established,
                "tcpEstablished": is_established,
            }
            path = f"/containers/{name}/restore"
            answer = api.post(path, params=params, timeout=CHECKPOINT_SECONDS)
            answer.raise_for_status()
            return _criu_time(answer)

        return await self._explained(name, "restore", self._run_slow(call, on=name))

    async def _explained(self, name: str, log: str, work: Coroutine[Any, Any, T]) -> T:
        """Have CRIU at work, and let what it wrote explain a failure.

        Mostly Podman's error names the log; where the OCI runtime itself said something, that
        stands in it instead, and may be about anything.
        """
        try:
            return await work
        except CRIUError as error:
            if error.log_tail:
                raise
            raise explained(str(error), await self._log_of(name, log)) from error

    async def _log_of(self, name: str, log: str) -> CRIULog:
        def call(api: Any) -> CRIULog:  # noqa: ANN401
            static = ask(api, f"/containers/{name}/json")["StaticDir"]
            return read_log(f"{static}/{log}.log")

        try:
            return await self._run(call, on=name)
        except PodmanFailure as error:
            logger.warning("%s: CRIU's log cannot be found: %s", name, error)
            return CRIULog()


def _criu_time(answer: Any) -> timedelta:  # noqa: ANN401
    statistics = answer.json().get("criu_statistics") or {}
    return timedelta(microseconds=statistics.get("restore_time", 0))
