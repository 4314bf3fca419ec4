"""Freezing and thawing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from podman.errors import APIError

from tryitnow.api.checkpoint import CRIUOptions, TCPPolicy
from tryitnow.podman.calls import FREEZE_SECONDS, ask
from tryitnow.podman.containers import Containers
from tryitnow.podman.criu_log import CRIULog, read_log
from tryitnow.podman.errors import CRIUError, PodmanFailure
from tryitnow.podman.state import PortMapping
from tryitnow.podman.translate import explained

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CHUNK_BYTES = 1 << 20


class Freezing(Containers):
    """Containers that are frozen and thawed."""

    async def checkpoint(
        self, name: str, options: CRIUOptions, consume: Callable[[Iterator[bytes]], T]
    ) -> T:
        """Freeze a running container and hand its export (a plain tar) to ``consume``.

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
                # the connections is decided at the thaw (podman-container-checkpoint(1)).
                "tcpEstablished": True,
                "fileLocks": options.file_locks,
            }
            path = f"/containers/{name}/checkpoint"
            with contextlib.closing(
                api.post(path, params=params, stream=True, timeout=FREEZE_SECONDS)
            ) as answer:
                answer.raise_for_status()
                return consume(answer.iter_content(_CHUNK_BYTES))

        return await self._explained(name, "dump", self._run_slow(call, on=name))

    async def restore(self, name: str, options: CRIUOptions) -> timedelta:
        """Thaw a stopped container from the images beside it; returns what CRIU took of it.

        The images stay. What is left of the container when it fails is the caller's to remove. So
        is what Podman makes of it after a cancellation: ``remove`` waits for that.

        Raises:
            CRIUError: the thaw failed.

        """

        def call(api: Any) -> timedelta:  # noqa: ANN401
            params = _restore_options(options) | {"keep": True}
            path = f"/containers/{name}/restore"
            answer = api.post(path, params=params, timeout=FREEZE_SECONDS)
            answer.raise_for_status()
            return _criu_time(answer)

        return await self._explained(name, "restore", self._run_slow(call, on=name))

    async def restore_import(
        self,
        name: str,
        options: CRIUOptions,
        ports: Sequence[PortMapping],
        produce: Callable[[], Iterator[bytes]],
        *,
        pod: str | None = None,
    ) -> timedelta:
        """Thaw a new container from an exported archive; returns what CRIU itself took of it.

        In a pod it has the pod's ports, and ``ports`` is empty.

        ``produce`` gives the archive's bytes; when it raises, Podman has not seen a whole
        archive and thaws nothing.

        Raises:
            CRIUError: the thaw failed; what was left of the container is removed.
            OSError: ``produce`` raised it; so with any other exception of its own.

        """

        def call(api: Any) -> timedelta:  # noqa: ANN401
            params = _restore_options(options) | {
                "import": True,
                "name": name,
                # Many copies of one archive live side by side: each has its own address.
                "ignoreStaticIP": True,
                "ignoreStaticMAC": True,
            }
            if ports:
                publish = " ".join(f"{p.host_port}:{p.container_port}" for p in ports)
                params["publishPorts"] = publish
            if pod is not None:
                params["pod"] = pod
            headers = {"Content-Type": "application/x-tar"}
            archive = _Upload(produce())
            try:
                # The endpoint wants a name in its path, and ignores it for an import.
                answer = api.post(
                    f"/containers/{name}/restore",
                    params=params,
                    data=iter(archive),
                    headers=headers,
                    timeout=FREEZE_SECONDS,
                )
            except APIError:
                if archive.error is not None:
                    raise archive.error from None
                raise
            answer.raise_for_status()
            return _criu_time(answer)

        try:
            return await self._explained(name, "restore", self._run_whole(call, on=name))
        except PodmanFailure:
            # podman leaves the container of a failed restore behind.
            with contextlib.suppress(PodmanFailure):
                await self.remove(name)
            raise

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


def _restore_options(options: CRIUOptions) -> dict[str, Any]:
    return {
        "printStats": True,
        "fileLocks": options.file_locks,
        "tcpClose": options.tcp is not TCPPolicy.ESTABLISHED,
        "tcpEstablished": options.tcp is TCPPolicy.ESTABLISHED,
    }


def _criu_time(answer: Any) -> timedelta:  # noqa: ANN401
    statistics = answer.json().get("criu_statistics") or {}
    return timedelta(microseconds=statistics.get("restore_time", 0))


class _Upload:
    """An archive on its way to Podman.

    Attributes:
        error: Why it could not be read here. The HTTP client takes any OSError for one of the
            connection's.

    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.error: OSError | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except OSError as error:
            self.error = error
            raise
