"""Checkpointing a running sandbox into one archive, all of its containers at one moment.

No TCP moves in the sandbox meanwhile: no request is under way that one container knows of and
another does not. Data between the containers that was not read yet is checkpointed with the
connections (``spec.criu.tcp``).
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import ContainerName
from tryitnow.agent.storage.archives import ArchiveName, ArchiveStore, Written, is_bundle
from tryitnow.agent.storage.bundle import CONTAINERS, VOLUMES, bundle, chunks_of, pack_volume
from tryitnow.agent.storage.diff import add_changes
from tryitnow.agent.storage.generations import GenerationStore
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.agent.storage.unpack import CHECKPOINT
from tryitnow.api.definition import Definition
from tryitnow.background import gather_results, in_thread, made_in_thread

_EXPORT_SHARE = 2
"""Room that a checkpoint needs, in memory of the application: once as Podman's export, once as
the archive, which may not compress."""


@dataclass(frozen=True)
class Contents:
    """How much an archive holds."""

    unpacked_bytes: int
    entries: int
    memory_bytes: int


@dataclass(frozen=True)
class Checkpointed:
    """An archive that was written."""

    written: Written
    contents: Contents


async def checkpoint(
    tools: StartTools,
    archives: ArchiveStore,
    generations: GenerationStore,
    disk: Ledger,
    name: ContainerName,
    helper: ContainerName,
    definition: Definition,
    sandbox: Sandbox,
    file: ArchiveName,
) -> Checkpointed:
    """Checkpoint a sandbox and write its archive. Its containers do not run any more afterwards.

    Args:
        tools: The node's tools.
        archives: Where the archive goes.
        generations: Has room for work that leaves nothing.
        disk: The books of the disk.
        name: Name of the sandbox.
        helper: Name for a container in which images are looked into.
        definition: What runs in it.
        sandbox: The sandbox.
        file: Name of the archive.

    Raises:
        CRIUError: CRIU refused; the message has the cause from its log.
        PodmanError: Podman refused.
        NodeShortError: the disk has no room; nothing was stopped.
        FirewallError: its firewall cannot be set.
        VolumeError, OSError: the disk is full or broken.

    """
    own_names = sandbox.containers(name, definition)
    pids = {container: await tools.podman.pid_of(own) for container, own in own_names.items()}
    hosts = {
        container: await in_thread(tools.containers.hosts.read, pid)
        for container, pid in pids.items()
    }
    needed = _EXPORT_SHARE * await in_thread(_resident_bytes, list(pids.values()))
    with disk.reserved(needed, f"the checkpoint of {file.checkpoint}"):
        make = partial(generations.scratch, f"{file.stem}.checkpoint")
        async with made_in_thread(make, generations.abandon) as scratch:
            await tools.sandboxes.firewall.close(sandbox.pid, tcp_blocked=True)
            parts = await _export_all(tools, own_names, definition, scratch)
            async with tools.sandboxes.in_work(helper):
                for container, own in own_names.items():
                    part = parts[f"{CONTAINERS}/{container}.tar"]
                    await add_changes(tools.podman, own, str(helper), part, hosts[container])
            for volume in definition.template.volumes:
                if volume.empty_dir is not None:
                    target = scratch / f"{volume.name}.{VOLUMES}"
                    source = tools.volumes.path(sandbox.pod.tag, volume.name)
                    await in_thread(pack_volume, source, target)
                    parts[f"{VOLUMES}/{volume.name}.tar"] = target
            contents = await in_thread(measure, parts)
            chunks = bundle(parts) if is_bundle(definition) else chunks_of(*parts.values())
            written = await in_thread(archives.write, file, chunks)
    return Checkpointed(written, contents)


async def _export_all(
    tools: StartTools, own_names: Mapping[str, str], definition: Definition, scratch: Path
) -> dict[str, Path]:
    async def one(container: str, own: str) -> tuple[str, Path]:
        target = scratch / f"{container}.{CONTAINERS}"
        await tools.podman.checkpoint(
            own, definition.criu_options, lambda chunks: _write(target, chunks)
        )
        return f"{CONTAINERS}/{container}.tar", target

    return dict(await gather_results(one(container, own) for container, own in own_names.items()))


def _write(target: Path, chunks: Iterator[bytes]) -> None:
    with target.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)


def measure(parts: Mapping[str, Path]) -> Contents:
    """Count what unpacking writes, without reading more than the headers. Blocking."""
    entries = memory_bytes = 0
    for path in parts.values():
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would remember them all
                entries += 1
                name = Path(member.name)
                if name.parent.name == CHECKPOINT and name.match("pages-*.img"):
                    memory_bytes += member.size
    return Contents(sum(path.stat().st_size for path in parts.values()), entries, memory_bytes)


def _resident_bytes(pids: list[int], proc: Path = Path("/proc")) -> int:
    """Return the memory of all processes in the PID namespaces of these. Blocking."""
    namespaces = {_link(proc / str(pid) / "ns/pid") for pid in pids} - {None}
    own = _link(proc / "self/ns/pid")
    total = 0
    for entry in proc.iterdir():
        if entry.name.isdigit() and (found := _link(entry / "ns/pid")) in namespaces - {own}:
            total += _resident(entry) if found else 0
    return total


def _resident(process: Path) -> int:
    try:
        # Second field: resident pages (proc_pid_statm(5)).
        return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0  # it ended meanwhile


def _link(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except OSError:
        return None
