"""Containers, images and checkpoints through Podman's libpod REST API.

``podman.PodmanClient`` has no calls for checkpoint and restore, so its ``APIClient`` is used on
the endpoints themselves (``/libpod/containers/{name}/checkpoint`` and ``…/restore``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import requests
from podman.errors import APIError, NotFound
from podman.errors import PodmanError as PodmanPyError

from tryitnow.api.checkpoint import Container, CRIUOptions, TCPPolicy
from tryitnow.metrics.instruments import Metrics
from tryitnow.podman.criu_log import log_tail
from tryitnow.podman.errors import (
    CRIUError,
    ImagePullError,
    NoSuchContainerError,
    PodmanError,
    PodmanUnreachableError,
)
from tryitnow.podman.measured import measured
from tryitnow.podman.session import open_session
from tryitnow.settings import PodmanSettings

T = TypeVar("T")

_CHUNK_BYTES = 1 << 20

_CALL_SECONDS = 60.0
"""For a call that only touches local state; measured in milliseconds, seconds under load."""

_FREEZE_SECONDS = 600.0
"""For a freeze or a thaw; 1 to 2 s for a 700 MB application, proportional to its memory."""

_PULL_SECONDS = 1800.0

_THREADS = 32
"""Calls at once. A thread that waits for Podman costs no core."""


@dataclass(frozen=True)
class PortMapping:
    """A port of the node that leads to a port of a container."""

    host_port: int
    container_port: int


@dataclass(frozen=True)
class ContainerState:
    """What Podman says about a container."""

    name: str
    id: str
    running: bool
    exit_code: int
    pid: int
    image: str
    ports: tuple[PortMapping, ...]
    paused: bool = False

    @property
    def alive(self) -> bool:
        """Whether its processes exist, paused or not: nothing of their memory is lost."""
        return self.running or self.paused


@dataclass(frozen=True)
class Image:
    """An image in the node's storage."""

    id: str
    pinned: str
    """Reference that means these very layers on any node: ``name@sha256:…``, or the ID of an
    image that was never in a registry."""


class Podman:
    """Podman's service on this node."""

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

    # -- plumbing ------------------------------------------------------------------------------

    def _session(self) -> Any:  # noqa: ANN401 - podman-py ships no types
        # A requests session is not safe to share between threads.
        if not hasattr(self._local, "session"):
            self._local.session = self._open.enter_context(open_session(self._socket))
        return self._local.session

    async def _run(self, call: Callable[[Any], T]) -> T:
        """Run a blocking call in a thread.

        When the caller is cancelled, the call is awaited all the same: a container that Podman
        is still making must be there to be removed, or nobody would remove it. What comes of it,
        an error included, does not undo the cancellation.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, self._guarded, call)
        with measured(self._metrics, call):
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                await asyncio.gather(future, return_exceptions=True)
                raise

    def _guarded(self, call: Callable[[Any], T]) -> T:
        try:
            return call(self._session())
        except NotFound as error:
            raise NoSuchContainerError(_text(error)) from error
        except APIError as error:
            if _is_answer(error):
                raise _translate(error) from error
            raise self._unreachable(error) from error
        except (requests.RequestException, PodmanPyError) as error:
            # A RequestException is an OSError. Any other OSError is not Podman's: it comes from
            # what a caller does with an archive, and is the caller's to understand.
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> PodmanUnreachableError:
        return PodmanUnreachableError(
            f"Podman does not answer at {self._socket}: {_innermost(error)}; "
            "check `systemctl status podman.socket` on the node"
        )

    # -- images --------------------------------------------------------------------------------

    async def pull(self, reference: str) -> Image:
        """Make the newest image of that name present, and return it pinned.

        A local image of that name serves where the registry has none newer or does not answer.

        Raises:
            ImagePullError: neither the registry nor the node has it.
            PodmanUnreachableError: the service does not answer.

        """
        return await self._run(lambda api: _pull(api, reference, "newer"))

    async def ensure_image(self, pinned: str) -> None:
        """Make a pinned image present; asks the registry only when it is missing.

        Raises:
            ImagePullError: it cannot be had.

        """
        await self._run(lambda api: _pull(api, pinned, "missing"))

    async def build_image(
        self, name: str, base: str, repository: str, tag: str, fill: Callable[[Path], None]
    ) -> str:
        """Make an image of a base image and what ``fill`` changes in its root file system.

        ``name`` is that of the container in which it happens. ``fill`` runs in a thread. An older
        image of that repository and tag is replaced. Returns the new image's ID.

        Raises:
            ImagePullError: the base image cannot be had.
            OSError: ``fill`` raised it; so with any other exception of its own.

        """

        def call(api: Any) -> str:  # noqa: ANN401
            _pull(api, base, "missing")
            # One that is replaced by its name alone would stay, nameless, for ever.
            _remove_image(api, f"{repository}:{tag}")
            spec = {"name": name, "image": base, "image_volume_mode": "ignore"}
            api.post(
                "/containers/create", data=json.dumps(spec), timeout=_CALL_SECONDS
            ).raise_for_status()
            mounted = api.post(f"/containers/{name}/mount", timeout=_CALL_SECONDS)
            mounted.raise_for_status()
            # Plain text by the service, a JSON string by its description.
            fill(Path(mounted.text.strip().strip('"')))
            api.post(f"/containers/{name}/unmount", timeout=_CALL_SECONDS).raise_for_status()
            params = {"container": name, "repo": repository, "tag": tag}
            answer = api.post("/commit", params=params, timeout=_FREEZE_SECONDS)
            answer.raise_for_status()
            return str(answer.json()["Id"])

        await self.remove(name)
        try:
            return await self._run(call)
        finally:
            await self.remove(name)

    async def has_image(self, reference: str) -> bool:
        """Whether an image lies in the node's storage."""

        def call(api: Any) -> bool:  # noqa: ANN401
            quoted = urllib.parse.quote(reference, safe="")
            answer = api.get(f"/images/{quoted}/exists", timeout=_CALL_SECONDS)
            if answer.status_code != requests.codes.not_found:
                answer.raise_for_status()
            return bool(answer.ok)

        return await self._run(call)

    async def image_tags(self, repository: str) -> set[str]:
        """Return the tags that a repository has in the node's storage."""

        def call(api: Any) -> set[str]:  # noqa: ANN401
            params = {"filters": json.dumps({"reference": [repository]})}
            answer = api.get("/images/json", params=params, timeout=_CALL_SECONDS)
            answer.raise_for_status()
            names = [name for image in answer.json() or () for name in image.get("RepoTags") or ()]
            return {
                tag
                for found, _, tag in (name.rpartition(":") for name in names)
                if found == repository
            }

        return await self._run(call)

    async def remove_image(self, reference: str) -> bool:
        """Remove an image; returns False when a container still needs it."""
        return await self._run(lambda api: _remove_image(api, reference))

    # -- containers ----------------------------------------------------------------------------

    async def create_and_start(
        self, name: str, container: Container, image: str, ports: list[PortMapping]
    ) -> None:
        """Start a container cold."""

        def call(api: Any) -> None:  # noqa: ANN401
            _create(api, name, container, image, ports)
            _act(api, name, "start")

        await self._run(call)

    async def create_stopped(
        self, name: str, container: Container, image: str, ports: list[PortMapping]
    ) -> Path:
        """Make a container as it is after its process has ended, without ever running one.

        Returns the directory in which Podman looks for what is to be restored in it.
        """

        def call(api: Any) -> Path:  # noqa: ANN401
            _create(api, name, container, image, ports)
            # Only what was initialized has the OCI configuration that a restore starts from.
            _act(api, name, "init")
            _act(api, name, "stop", timeout=0)
            answer = api.get(f"/containers/{name}/json", timeout=_CALL_SECONDS)
            answer.raise_for_status()
            return Path(answer.json()["StaticDir"])

        return await self._run(call)

    async def start(self, name: str) -> None:
        """Start a stopped container again, with the files that it had."""

        await self._run(lambda api: _act(api, name, "start"))

    async def rename(self, name: str, new_name: str) -> None:
        """Give a container another name, at one stroke.

        Raises:
            NoSuchContainerError: there is none.
            PodmanError: the new name is taken.

        """

        await self._run(lambda api: _act(api, name, "rename", name=new_name))

    async def pause(self, name: str) -> None:
        """Stop all processes of a container where they are (the cgroup freezer)."""

        await self._run(lambda api: _act(api, name, "pause"))

    async def unpause(self, name: str) -> None:
        """Let a paused container go on."""

        await self._run(lambda api: _act(api, name, "unpause"))

    async def remove(self, name: str) -> None:
        """Kill and remove a container; fine when there is none."""

        def call(api: Any) -> None:  # noqa: ANN401
            params = {"force": True, "v": True, "timeout": 0, "ignore": True}
            answer = api.delete(f"/containers/{name}", params=params, timeout=_CALL_SECONDS)
            if answer.status_code != requests.codes.not_found:
                answer.raise_for_status()

        await self._run(call)

    async def inspect(self, name: str) -> ContainerState | None:
        """Return a container's state; None when there is none of that name."""

        def call(api: Any) -> ContainerState | None:  # noqa: ANN401
            answer = api.get(f"/containers/{name}/json", timeout=_CALL_SECONDS)
            if answer.status_code == requests.codes.not_found:
                return None
            answer.raise_for_status()
            return _from_inspect(answer.json())

        return await self._run(call)

    async def list_containers(self, prefix: str) -> list[ContainerState]:
        """Return all containers, running or not, whose name starts with the prefix."""

        def call(api: Any) -> list[ContainerState]:  # noqa: ANN401
            params = {"all": True, "filters": json.dumps({"name": [f"^{prefix}"]})}
            answer = api.get("/containers/json", params=params, timeout=_CALL_SECONDS)
            answer.raise_for_status()
            return [_from_list(item) for item in answer.json() or []]

        return await self._run(call)

    async def log_tail(self, name: str, lines: int = 10) -> str:
        """Return the last lines that a container wrote; empty when there are none."""

        def call(api: Any) -> str:  # noqa: ANN401
            params = {"stdout": True, "stderr": True, "tail": lines}
            answer = api.get(f"/containers/{name}/logs", params=params, timeout=_CALL_SECONDS)
            answer.raise_for_status()
            return _demultiplex(answer.content)

        return await self._run(call)

    # -- freezing and thawing ------------------------------------------------------------------

    async def checkpoint(
        self, name: str, options: CRIUOptions, consume: Callable[[Iterator[bytes]], T]
    ) -> T:
        """Freeze a running container and hand its export (a plain tar) to ``consume``.

        The container is stopped afterwards. ``consume`` runs in a thread.

        Raises:
            CRIUError: CRIU refused; the message ends with the tail of its log.
            OSError: ``consume`` raised it; so with any other exception of its own.

        """

        def call(api: Any) -> T:  # noqa: ANN401
            params = {
                "export": True,
                # Without it CRIU refuses a container with any open connection; what becomes of
                # the connections is decided at the thaw (podman-container-checkpoint(1)).
                "tcpEstablished": True,
                "fileLocks": options.file_locks,
            }
            path = f"/containers/{name}/checkpoint"
            with contextlib.closing(
                api.post(path, params=params, stream=True, timeout=_FREEZE_SECONDS)
            ) as answer:
                answer.raise_for_status()
                return consume(answer.iter_content(_CHUNK_BYTES))

        return await self._run(call)

    async def restore(self, name: str, options: CRIUOptions) -> timedelta:
        """Thaw a stopped container from the images beside it; returns what CRIU took of it.

        The images stay. What is left of the container when it fails is the caller's to remove.

        Raises:
            CRIUError: the thaw failed.

        """

        def call(api: Any) -> timedelta:  # noqa: ANN401
            params = _restore_options(options) | {"keep": True}
            path = f"/containers/{name}/restore"
            answer = api.post(path, params=params, timeout=_FREEZE_SECONDS)
            answer.raise_for_status()
            return _criu_time(answer)

        return await self._run(call)

    async def restore_import(
        self,
        name: str,
        options: CRIUOptions,
        ports: list[PortMapping],
        produce: Callable[[], Iterator[bytes]],
    ) -> timedelta:
        """Thaw a new container from an exported archive; returns what CRIU itself took of it.

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
                "publishPorts": " ".join(f"{p.host_port}:{p.container_port}" for p in ports),
            }
            headers = {"Content-Type": "application/x-tar"}
            archive = _Upload(produce())
            try:
                # The endpoint wants a name in its path, and ignores it for an import.
                answer = api.post(
                    f"/containers/{name}/restore",
                    params=params,
                    data=iter(archive),
                    headers=headers,
                    timeout=_FREEZE_SECONDS,
                )
            except APIError:
                if archive.error is not None:
                    raise archive.error from None
                raise
            answer.raise_for_status()
            return _criu_time(answer)

        try:
            return await self._run(call)
        except PodmanError:
            # podman leaves the container of a failed restore behind.
            with contextlib.suppress(PodmanError):
                await self.remove(name)
            raise


def _create(
    api: Any,  # noqa: ANN401
    name: str,
    container: Container,
    image: str,
    ports: list[PortMapping],
) -> None:
    spec = json.dumps(_container_spec(name, container, image, ports))
    api.post("/containers/create", data=spec, timeout=_CALL_SECONDS).raise_for_status()


def _act(api: Any, container: str, verb: str, **params: Any) -> None:  # noqa: ANN401
    path = f"/containers/{container}/{verb}"
    api.post(path, params=params, timeout=_CALL_SECONDS).raise_for_status()


def _restore_options(options: CRIUOptions) -> dict[str, Any]:
    return {
        "printStats": True,
        "fileLocks": options.file_locks,
        "tcpClose": options.tcp is TCPPolicy.CLOSE,
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


def _is_answer(error: APIError) -> bool:
    # podman-py makes an APIError of a broken connection as well, but without a response.
    return error.response is not None


def _innermost(error: BaseException) -> BaseException:
    # Three libraries wrap it, and each hides a little more of "No such file or directory".
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def _text(error: APIError) -> str:
    return str(error.explanation or error)


def _translate(error: APIError) -> PodmanError:
    text = _text(error)
    tail = log_tail(text)
    if tail or "criu" in text.lower():
        return CRIUError(text, tail)
    return PodmanError(text)


def _pull(api: Any, reference: str, policy: str) -> Image:  # noqa: ANN401
    params = {"reference": reference, "policy": policy, "quiet": True}
    try:
        with contextlib.closing(
            api.post("/images/pull", params=params, stream=True, timeout=_PULL_SECONDS)
        ) as answer:
            answer.raise_for_status()
            last: dict[str, Any] = {}
            for line in answer.iter_lines():
                last = json.loads(line)
                if last.get("error"):
                    raise ImagePullError(f"image {reference!r} cannot be pulled: {last['error']}")
    except APIError as error:
        if not _is_answer(error):
            raise
        msg = f"image {reference!r} cannot be pulled: {_text(error)}"
        raise ImagePullError(msg) from error
    quoted = urllib.parse.quote(last.get("id") or reference, safe="")
    answer = api.get(f"/images/{quoted}/json", timeout=_CALL_SECONDS)
    answer.raise_for_status()
    found = answer.json()
    return Image(id=found["Id"], pinned=_pinned(reference, found))


def _remove_image(api: Any, reference: str) -> bool:  # noqa: ANN401
    quoted = urllib.parse.quote(reference, safe="")
    answer = api.delete(f"/images/{quoted}", timeout=_CALL_SECONDS)
    if answer.status_code == requests.codes.conflict:
        return False
    if answer.status_code != requests.codes.not_found:
        answer.raise_for_status()
    return True


def _pinned(reference: str, image: dict[str, Any]) -> str:
    if "@sha256:" in reference:
        return reference
    repository = reference.rsplit("/", 1)
    repository[-1] = repository[-1].split(":", 1)[0]
    name = "/".join(repository)
    digests: list[str] = image.get("RepoDigests") or []
    # An image may be known by several repositories; the one that was asked for comes first.
    digests.sort(key=lambda digest: not digest.startswith(f"{name}@"))
    return digests[0] if digests else str(image["Id"])


def _container_spec(
    name: str, container: Container, image: str, ports: list[PortMapping]
) -> dict[str, Any]:
    """Return libpod's SpecGenerator for a container."""
    spec: dict[str, Any] = {
        "name": name,
        "image": image,
        "env": {variable.name: variable.value for variable in container.env},
        "portmappings": [
            {"host_port": p.host_port, "container_port": p.container_port, "protocol": "tcp"}
            for p in ports
        ],
        "netns": {"nsmode": "bridge"},
        # The image's VOLUMEs stay part of the root file system: so they are frozen with it, and
        # every copy has its own. As named volumes a second import would find them in its way.
        "image_volume_mode": "ignore",
        # The node's proxy settings would be frozen into the archive.
        "httpproxy": False,
    }
    if container.command:
        spec["entrypoint"] = list(container.command)
    if container.args:
        spec["command"] = list(container.args)
    return spec


def _from_inspect(found: dict[str, Any]) -> ContainerState:
    bindings: dict[str, Any] = found.get("HostConfig", {}).get("PortBindings") or {}
    ports = tuple(
        PortMapping(host_port=int(entry["HostPort"]), container_port=int(port.split("/")[0]))
        for port, entries in bindings.items()
        for entry in entries or ()
    )
    state = found["State"]
    return ContainerState(
        name=found["Name"],
        id=found["Id"],
        running=bool(state["Running"]),
        paused=bool(state.get("Paused", False)),
        exit_code=int(state.get("ExitCode", 0)),
        pid=int(state.get("Pid", 0)),
        image=found.get("ImageName", ""),
        ports=ports,
    )


def _from_list(item: dict[str, Any]) -> ContainerState:
    return ContainerState(
        name=item["Names"][0],
        id=item["Id"],
        running=item["State"] == "running",
        paused=item["State"] == "paused",
        exit_code=int(item.get("ExitCode", 0)),
        pid=int(item.get("Pid", 0)),
        image=item.get("Image", ""),
        ports=tuple(
            PortMapping(
                host_port=int(p["host_port"]) + i, container_port=int(p["container_port"]) + i
            )
            for p in item.get("Ports") or ()
            for i in range(int(p.get("range", 1)))
        ),
    )


def _demultiplex(data: bytes) -> str:
    """Take the 8-byte frame headers out of a log stream (Docker's attach format)."""
    text, offset = b"", 0
    while offset + 8 <= len(data):
        size = int.from_bytes(data[offset + 4 : offset + 8], "big")
        text += data[offset + 8 : offset + 8 + size]
        offset += 8 + size
    return text.decode(errors="replace").strip()
