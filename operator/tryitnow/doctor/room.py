"""Disk and memory: the free space, against the reserve."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from tryitnow.api.nodeagent import Check
from tryitnow.doctor.disk import DiskFacts
from tryitnow.doctor.facts import NodeFacts
from tryitnow.doctor.kernel import Usage
from tryitnow.doctor.names import CheckName
from tryitnow.doctor.verdicts import FEWER_DEMOS, failed, gibibytes, passed, warned

COMFORTABLE_BYTES = 8 << 30
"""8 GiB above the reserve: one archive of a large application (7.5 GB in benchmarkoor pull request
282)."""

INODES_OF_AN_APPLICATION = 10_000
"""A Debian root file system with Python and some programs has 11,457 (counted)."""

BYTES_PER_INODE = 16 << 10
"""What mke2fs gives a file system (inode_ratio of mke2fs.conf): so many inodes are the reserve."""

DEMO_BYTES = 64 << 20
"""64 MiB: a small application. Node-RED has 42 MB of memory of its own, its sandbox some more."""


def room(facts: NodeFacts) -> Iterator[Check]:
    """Judge disk and memory."""
    yield _free_space(facts)
    storage = facts.storage
    if storage and facts.disk and storage.device == facts.disk.device:
        storage = None  # one file system, one line
    if storage is not None:
        yield _storage_space(facts, storage)
    known = [disk for disk in (facts.disk, storage) if disk is not None]
    if known:
        yield _inodes(facts, known)
    if facts.limits.memory is not None:
        yield _memory(facts, facts.limits.memory)


def _free_space(facts: NodeFacts) -> Check:
    path = shlex.quote(str(facts.directory.path))
    if facts.disk is None:
        return failed(CheckName.FREE_SPACE, f"unknown for {path}", f"`df -h {path}`")
    remedy = (
        f"delete unused Checkpoints (`df -h {path}` shows the file system), or set "
        "CHECKPOINT_PATH to a larger one"
    )
    return _space(facts, CheckName.FREE_SPACE, facts.disk, f"for {path}", remedy)


def _storage_space(facts: NodeFacts, storage: DiskFacts) -> Check:
    path = shlex.quote(str(storage.path))
    remedy = (
        f"`podman image prune` removes unused images (`df -h {path}` shows the file "
        "system); or give it a larger one"
    )
    return _space(facts, CheckName.STORAGE_SPACE, storage, f"for Podman's {path}", remedy)


def _space(facts: NodeFacts, name: CheckName, disk: DiskFacts, what: str, remedy: str) -> Check:
    reserve = facts.wanted.disk_reserve_bytes
    found = f"{gibibytes(disk.free_bytes)} {what}"
    stays = f"the {gibibytes(reserve)} of DISK_RESERVE"
    if disk.free_bytes < max(1, reserve):
        return failed(name, f"{found}; below {stays} the node takes nothing", remedy)
    if disk.free_bytes < reserve + COMFORTABLE_BYTES:
        return warned(
            name,
            f"{found}; above {stays} a large application needs {gibibytes(COMFORTABLE_BYTES)}",
            remedy,
        )
    return passed(name, f"{found}; {stays} stay")


def _inodes(facts: NodeFacts, disks: list[DiskFacts]) -> Check:
    name = CheckName.INODES
    counted = [(disk.free_inodes, disk) for disk in disks if disk.free_inodes is not None]
    if not counted:
        return passed(name, "limited by its space only")
    free, disk = min(counted, key=lambda pair: pair[0])
    path = shlex.quote(str(disk.path))
    found = f"{free} free for {path}"
    remedy = (
        f"remove small unused files (`df -i {path}` shows the file system), or make "
        "one with more inodes"
    )
    if free < INODES_OF_AN_APPLICATION:
        return failed(
            name, f"{found}; one application has {INODES_OF_AN_APPLICATION} files", remedy
        )
    reserve = facts.wanted.disk_reserve_bytes // BYTES_PER_INODE
    if free < reserve:
        return warned(name, f"{found}; the disk's reserve amounts to {reserve}", remedy)
    return passed(name, found)


def _memory(facts: NodeFacts, memory: Usage) -> Check:
    name, demos = CheckName.MEMORY, facts.wanted.demos
    reserve = facts.wanted.memory_reserve_bytes
    found = f"{gibibytes(memory.left)} of {gibibytes(memory.limit)} available"
    stays = f"the {gibibytes(reserve)} of MEMORY_RESERVE_MIB"
    if memory.left < reserve:
        return warned(
            name,
            f"{found}; below {stays} the node takes nothing",
            f"end unused demos, or a smaller `spec.pool.warm`; or {FEWER_DEMOS}",
        )
    held = max(0, memory.limit - reserve) // DEMO_BYTES
    if held < demos:
        return warned(
            name,
            f"{found}; above {stays} it holds {held} of {demos} small demos",
            f"{FEWER_DEMOS}, or a node with more memory",
        )
    return passed(name, f"{found}; {stays} stay")
