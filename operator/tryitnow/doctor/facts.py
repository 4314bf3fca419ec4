"""The facts of a node. No opinions: ``checks`` judges them.

Gathering never fails: a missing fact is recorded together with the reason.
"""

from __future__ import annotations

import asyncio
import os
import platform
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from tryitnow.doctor.cpu import cpu_features
from tryitnow.doctor.disk import DirectoryFacts, DiskFacts, examine_directory, examine_disk
from tryitnow.doctor.host import CommandResult, Host, podmans_host
from tryitnow.doctor.kernel import KernelFacts, examine_kernel
from tryitnow.doctor.mounts import MountFacts, examine_mounts
from tryitnow.doctor.network import NetworkFacts, examine_network, seen_twice, strays
from tryitnow.doctor.podman import PodmanFacts, ask_podman, list_containers
from tryitnow.doctor.spills import SpillFacts, examine_spills
from tryitnow.doctor.timeouts import Timeouts, timeouts_for
from tryitnow.settings import AgentSettings

_IMAGES_OWN = "/usr/libexec/try-it-now/podman-service"
"""A file that no package brings (Containerfile)."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The load that the node's settings allow."""

    demos: int
    """Most instances at once."""

    ports: range
    """Ports that they are published on."""

    disk_reserve_bytes: int
    memory_reserve_bytes: int
    limits: frozenset[str] = frozenset()
    """Limits that each container has at least, by the names of their controllers."""

    unenforced_limits: bool = False
    """Whether containers run without limits that nothing can hold."""


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """All that is known about a node."""

    wanted: Wanted
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
    """The reason why Podman did not answer; empty when it did."""

    podman_timed_out: bool
    """Podman listens, and did not answer in time."""

    podman_socket: str
    podman_command: CommandResult
    runtime_checkpoint: CommandResult
    """``RUNTIME checkpoint --help``: what Podman itself asks, to know that a runtime can do it."""

    libcriu: bool | None
    """The runtime has libcriu, linked or to be loaded; True where that cannot be found out, None
    where the answer did not come in time."""

    criu_enabled: bool
    criu: CommandResult
    """``criu --version``."""

    criu_check: CommandResult
    criu_config: str
    """CRIU's configuration for this runtime."""

    iptables: CommandResult
    cgroup_v2: bool
    """/sys/fs/cgroup is cgroup v2."""

    cgroup_v1: tuple[str, ...]
    """Controllers, or names, of the v1 hierarchies of the machine."""

    controllers: frozenset[str]
    """Controllers of cgroup v2 on this machine."""

    nft: CommandResult
    """``nft --version``."""

    directory: DirectoryFacts
    disk: DiskFacts | None
    """The file system of the checkpoint directory; None when it could not be read."""

    storage: DiskFacts | None
    """The file system of Podman's storage; None when it could not be read."""

    limits: KernelFacts
    network: NetworkFacts
    mounts: MountFacts
    spills: SpillFacts
    cpu_features: tuple[str, ...]
    """Of the processors, those that a checkpoint depends on."""


async def gather(
    settings: AgentSettings, host: Host | None = None, waits: Timeouts | None = None
) -> NodeFacts:
    """Look at the node that this runs on; everything that blocks runs in threads, at once."""
    wait = waits or timeouts_for(settings.doctor_timeout, unanswered=0)
    if host is None:
        host = await asyncio.to_thread(podmans_host, settings.podman.socket)
    node = host
    ports = range(settings.first_port, settings.last_port + 1)

    async def command(*argv: str, limit: timedelta = wait.command) -> CommandResult:
        return await asyncio.to_thread(node.run, *argv, limit=limit)

    answer, results, here = await asyncio.gather(
        asyncio.to_thread(ask_podman, settings.podman.socket, wait.podman),
        asyncio.gather(
            command("podman", "--version"),
            command("criu", "--version"),
            command("criu", "check", limit=wait.criu_check),
            # The program that CRIU runs, with ip6tables-restore from the same package.
            command("iptables-restore", "--version"),
            command("nft", "--version"),
        ),
        asyncio.to_thread(_examine_node, node, settings.checkpoint_path, ports),
    )
    podman = answer.facts
    podman_command, criu, criu_check, iptables, nft = results
    directory, disk, limits, network, mounts, spills = here
    if podman and strays(network.conmons, podman.container_ids):
        # Containers come and go meanwhile: they are listed between the two examinations.
        ids = await asyncio.to_thread(list_containers, settings.podman.socket, wait.podman)
        podman = replace(podman, container_ids=ids)
        network = seen_twice(network, await asyncio.to_thread(examine_network, node, ports))
    runtime = podman.runtime_path if podman else ""
    runtime_checkpoint, libcriu, storage = await asyncio.gather(
        command(runtime or "crun", "checkpoint", "--help"),
        asyncio.to_thread(_has_libcriu, node, runtime, wait.command),
        asyncio.to_thread(_examine_storage, node, podman),
    )
    return NodeFacts(
        wanted=Wanted(
            demos=settings.capacity,
            ports=ports,
            disk_reserve_bytes=settings.disk_reserve_bytes,
            memory_reserve_bytes=settings.memory_reserve_bytes,
            limits=frozenset(
                name for name, value in settings.containers.default_limits if value is not None
            ),
            unenforced_limits=settings.containers.allow_unenforced_limits,
        ),
        system=platform.system(),
        kernel=platform.release(),
        distribution=_distribution(node.read("/etc/os-release")),
        is_our_image=bool(node.read(_IMAGES_OWN)),
        user=os.geteuid(),
        podman=podman,
        podman_problem=answer.problem,
        podman_timed_out=answer.timed_out,
        podman_socket=settings.podman.socket,
        podman_command=podman_command,
        runtime_checkpoint=runtime_checkpoint,
        libcriu=libcriu,
        criu_enabled=settings.criu_enabled,
        criu=criu,
        criu_check=criu_check,
        criu_config=node.read(f"/etc/criu/{podman.runtime_name if podman else 'crun'}.conf"),
        iptables=iptables,
        cgroup_v2=Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        cgroup_v1=_v1_hierarchies(),
        controllers=frozenset(node.read("/sys/fs/cgroup/cgroup.controllers").split()),
        nft=nft,
        directory=directory,
        disk=disk,
        storage=storage,
        limits=limits,
        network=network,
        mounts=mounts,
        spills=spills,
        cpu_features=cpu_features(node.read("/proc/cpuinfo")),
    )


def _examine_node(
    host: Host, checkpoint_path: Path, ports: range
) -> tuple[DirectoryFacts, DiskFacts | None, KernelFacts, NetworkFacts, MountFacts, SpillFacts]:
    return (
        examine_directory(checkpoint_path),
        examine_disk(checkpoint_path),
        examine_kernel(host),
        examine_network(host, ports),
        examine_mounts(host, checkpoint_path.parent),
        examine_spills(host),
    )


def _examine_storage(host: Host, podman: PodmanFacts | None) -> DiskFacts | None:
    if podman is None or not podman.storage_path:
        return None
    return examine_disk(Path(podman.storage_path), host.root)


def _has_libcriu(host: Host, runtime: str, limit: timedelta) -> bool | None:
    libraries = host.run("ldconfig", "-p", limit=limit)
    if libraries.timed_out:
        return None
    if not libraries.ok or "libcriu.so.2" in libraries.output:
        return True
    # A static build holds the library itself, and ldd refuses it.
    linked = host.run("ldd", runtime, limit=limit)
    return None if linked.timed_out else not linked.ok


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
