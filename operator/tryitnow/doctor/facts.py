"""What is found on a node. No opinions: whether it will do is decided in ``checks``.

Looking never fails: what could not be found out is recorded together with the reason.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
import stat
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import requests
from podman.api import APIClient
from podman.errors import PodmanError

from tryitnow.doctor.host import Host, Outcome, podmans_host
from tryitnow.settings import AgentSettings

_COMMAND_LIMIT = timedelta(seconds=5)
"""For a command that only prints its version; milliseconds, unless the disk hangs."""

_CRIU_CHECK_LIMIT = timedelta(seconds=20)
"""``criu check`` tries the kernel's features one by one: 0.03 s measured, seconds under load."""

_PODMAN_SECONDS = 10.0
"""For Podman's /info: 0.1 s measured; it waits while a pull holds the lock of the storage."""


_IMAGES_OWN = "/usr/libexec/try-it-now/podman-service"
"""A file that no package brings (Containerfile)."""


@dataclass(frozen=True, kw_only=True)
class PodmanFacts:
    """What Podman's service says about itself."""

    version: str
    rootless: bool
    runtime_name: str
    runtime_path: str
    runtime_version: str
    """All that the OCI runtime prints as its version, features included."""

    storage_driver: str


@dataclass(frozen=True, kw_only=True)
class DirectoryFacts:
    """The checkpoint directory, or the place where it would be."""

    path: Path
    exists: bool
    problem: str
    """Why it could not be looked at; empty when it could, or is not there."""

    is_directory: bool
    writable: bool
    """We can write to it, or to the nearest one above it that exists."""

    mode: int
    """Permission bits; 0 when there is no directory."""

    owner: int
    free_bytes: int | None
    """None when it could not be found out."""


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """All that is known about a node."""

    system: str
    """``Linux``, ``Darwin``, …"""

    kernel: str
    distribution: tuple[str, ...]
    """ID and ID_LIKE of os-release(5)."""

    is_our_image: bool
    """Podman and all that it calls are those of our own image, as in the agent's Pod."""

    user: int
    """User ID that this program runs as."""

    podman: PodmanFacts | None
    podman_problem: str
    """Why there is no answer from Podman; empty when there is."""

    podman_socket: str
    podman_command: Outcome
    runtime_checkpoint: Outcome
    """``RUNTIME checkpoint --help``: what Podman itself asks, to know that a runtime can do it."""

    libcriu: bool
    """The runtime has libcriu, linked or to be loaded; True where that cannot be found out."""

    criu_enabled: bool
    criu: Outcome
    """``criu --version``."""

    criu_check: Outcome
    criu_config: str
    """CRIU's configuration for this runtime."""

    iptables: Outcome
    directory: DirectoryFacts
    cgroup_v2: bool
    """/sys/fs/cgroup is cgroup v2."""

    cgroup_v1: tuple[str, ...]
    """Controllers, or names, of the v1 hierarchies of the machine."""

    controllers: frozenset[str]
    """Controllers of cgroup v2 on this machine."""

    nft: Outcome
    """``nft --version``."""


async def gather(settings: AgentSettings, host: Host | None = None) -> NodeFacts:
    """Look at the node that this runs on; everything that blocks runs in threads, at once."""
    if host is None:
        host = await asyncio.to_thread(podmans_host, settings.podman.socket)
    node = host

    async def command(*argv: str, limit: timedelta = _COMMAND_LIMIT) -> Outcome:
        return await asyncio.to_thread(node.run, *argv, limit=limit)

    (podman, problem), podman_command, criu, criu_check, iptables, directory = await asyncio.gather(
        asyncio.to_thread(_ask_podman, settings.podman.socket),
        command("podman", "--version"),
        command("criu", "--version"),
        command("criu", "check", limit=_CRIU_CHECK_LIMIT),
        # The program that CRIU runs, with ip6tables-restore from the same package.
        command("iptables-restore", "--version"),
        asyncio.to_thread(_look_at_directory, settings.checkpoint_path),
    )
    runtime = podman.runtime_path if podman else ""
    runtime_checkpoint, nft, libcriu = await asyncio.gather(
        command(runtime or "crun", "checkpoint", "--help"),
        command("nft", "--version"),
        asyncio.to_thread(_has_libcriu, node, runtime),
    )
    return NodeFacts(
        system=platform.system(),
        kernel=platform.release(),
        distribution=_distribution(node.read("/etc/os-release")),
        is_our_image=bool(node.read(_IMAGES_OWN)),
        user=os.geteuid(),
        podman=podman,
        podman_problem=problem,
        podman_socket=settings.podman.socket,
        podman_command=podman_command,
        runtime_checkpoint=runtime_checkpoint,
        libcriu=libcriu,
        criu_enabled=settings.criu_enabled,
        criu=criu,
        criu_check=criu_check,
        criu_config=node.read(f"/etc/criu/{podman.runtime_name if podman else 'crun'}.conf"),
        iptables=iptables,
        directory=directory,
        cgroup_v2=Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        cgroup_v1=_v1_hierarchies(),
        controllers=frozenset(node.read("/sys/fs/cgroup/cgroup.controllers").split()),
        nft=nft,
    )


def _ask_podman(url: str) -> tuple[PodmanFacts | None, str]:
    problem = _socket_problem(url)
    if problem:
        return None, problem
    try:
        with APIClient(base_url=url) as api:
            answer = api.get("/info", timeout=_PODMAN_SECONDS)
            answer.raise_for_status()
            info = answer.json()
    except (requests.RequestException, PodmanError, OSError, ValueError) as error:
        return None, f"Podman does not answer at {url}: {error}"
    return PodmanFacts(
        version=str(_field(info, "version", "Version")),
        rootless=bool(_field(info, "host", "security", "rootless")),
        runtime_name=str(_field(info, "host", "ociRuntime", "name")),
        runtime_path=str(_field(info, "host", "ociRuntime", "path")),
        runtime_version=str(_field(info, "host", "ociRuntime", "version")),
        storage_driver=str(_field(info, "store", "graphDriverName")),
    ), ""


def _socket_problem(url: str) -> str:
    """Say why nobody can be reached at a UNIX socket: podman-py's own error does not tell."""
    path = url.removeprefix("unix://")
    if path == url:
        return ""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PODMAN_SECONDS)
            probe.connect(path)
    except FileNotFoundError:
        return f"there is no socket at {path}"
    except PermissionError:
        return f"no permission to use the socket {path}"
    except ConnectionRefusedError:
        return f"nobody listens at the socket {path}"
    except OSError as error:
        return f"the socket {path} cannot be used: {error}"
    return ""


def _field(answer: object, *keys: str) -> object:
    for key in keys:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return "" if answer is None else answer


def _has_libcriu(host: Host, runtime: str) -> bool:
    libraries = host.run("ldconfig", "-p", limit=_COMMAND_LIMIT)
    if not libraries.ok or "libcriu.so.2" in libraries.output:
        return True
    # A static build holds the library itself, and ldd refuses it.
    return not host.run("ldd", runtime, limit=_COMMAND_LIMIT).ok


def _look_at_directory(path: Path) -> DirectoryFacts:
    problem = ""
    found: os.stat_result | None = None
    try:
        found = path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        problem = error.strerror or str(error)
    nearest = path if found else _nearest_existing(path)
    try:
        free_bytes = shutil.disk_usage(nearest).free
    except OSError:
        free_bytes = None
    return DirectoryFacts(
        path=path,
        exists=found is not None,
        problem=problem,
        is_directory=found is not None and stat.S_ISDIR(found.st_mode),
        writable=os.access(nearest, os.W_OK | os.X_OK),
        mode=stat.S_IMODE(found.st_mode) if found else 0,
        owner=found.st_uid if found else 0,
        free_bytes=free_bytes,
    )


def _nearest_existing(path: Path) -> Path:
    for parent in path.parents:
        if os.access(parent, os.F_OK):
            return parent
    return path


def _distribution(os_release: str) -> tuple[str, ...]:
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    words = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}"
    return tuple(words.replace('"', "").replace("'", "").split())


def _v1_hierarchies() -> tuple[str, ...]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ()
    # cgroups(7): hierarchy:controllers:path; v2 is hierarchy 0, without controllers.
    controllers = [line.split(":", 2)[1] for line in lines if not line.startswith("0::")]
    return tuple(sorted(name for name in controllers if name))
