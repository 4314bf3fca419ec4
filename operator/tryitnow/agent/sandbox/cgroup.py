"""Bringing all processes of a restored container to where its limits and a pause reach them.

CRIU puts them there itself on most nodes. Where it is told to leave cgroups alone
(``manage-cgroups=ignore`` in ``/etc/criu/crun.conf``, as on nodes that mix cgroup v1 and v2), only
the first process is in the container's cgroup after a restore and all others are in the caller's.
"""

from __future__ import annotations

import os
from pathlib import Path

from tryitnow.agent.errors import CgroupError

ROUNDS = 10
"""Looks at most: a process that forks while it is moved leaves a child behind, seldom two."""


def gather(container_id: str, pid: int, proc: Path = Path("/proc")) -> int:
    """Move what runs in the PID namespace of a container's first process to that one's cgroup.

    What is in the container's own cgroups below it stays there. Returns the number of processes
    that were moved. Blocking: the first move waits for a grace period of the kernel (10 to 20 ms),
    the others come with it.

    Raises:
        CgroupError: they cannot be moved.

    """
    own = _cgroup(proc, pid)
    if own is None:
        return 0  # it ended meanwhile, or the node has cgroup v1 alone, which CRIU handles itself
    namespace = _namespace(proc, pid)
    if namespace is None or namespace == _namespace(proc, os.getpid()):
        # It ended meanwhile, and its number is another's: "all in its namespace" is the node.
        return 0
    target = _mountpoint(proc) / own.lstrip("/") / "cgroup.procs"
    home = _up_to(own, container_id)
    moved = 0
    for _ in range(ROUNDS):
        strays = [
            other
            for other in _pids(proc)
            if _namespace(proc, other) == namespace and _is_outside(_cgroup(proc, other), home)
        ]
        if not strays:
            return moved
        for stray in strays:
            try:
                target.write_text(str(stray))
            except ProcessLookupError:
                continue  # it ended meanwhile
            except OSError as error:
                msg = f"process {stray} cannot be moved to {target.parent}: {error}"
                raise CgroupError(msg) from error
            moved += 1
    msg = f"{len(strays)} processes keep appearing outside {target.parent}"
    raise CgroupError(msg)


def _up_to(cgroup: str, container_id: str) -> str:
    """The container's own cgroup: libpod-ID, libpod-ID.scope, whatever holds its ID."""
    head, found, tail = cgroup.partition(container_id)
    return head + found + tail.partition("/")[0] if found else cgroup


def _is_outside(cgroup: str | None, home: str) -> bool:
    return cgroup is not None and cgroup != home and not cgroup.startswith(f"{home}/")


def _pids(proc: Path) -> list[int]:
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]


def _namespace(proc: Path, pid: int) -> str | None:
    try:
        return str((proc / str(pid) / "ns/pid").readlink())
    except OSError:
        return None  # it ended meanwhile


def _cgroup(proc: Path, pid: int) -> str | None:
    """The process's path in the cgroup v2 hierarchy (cgroups(7): the line with hierarchy 0)."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None  # it ended meanwhile
    found = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    return None if found is None else found.removesuffix(" (deleted)")


def _mountpoint(proc: Path) -> Path:
    for line in (proc / "self/mounts").read_text().splitlines():
        _, mountpoint, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(mountpoint)
    msg = "no cgroup2 file system is mounted here; mount it at /sys/fs/cgroup"
    raise CgroupError(msg)
