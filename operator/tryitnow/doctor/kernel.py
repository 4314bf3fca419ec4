"""The kernel's limits and their use, read from /proc."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from tryitnow.doctor.host import Host

_SYS = "/proc/sys/"
_CGROUPS = "/sys/fs/cgroup"

_PARENTS = (PurePosixPath("/libpod_parent"), PurePosixPath("/machine.slice"))
"""What Podman puts its containers below, by its cgroup_manager: cgroupfs or systemd."""


@dataclass(frozen=True)
class Usage:
    """Something that there is a limited number of."""

    limit: int
    used: int
    """How many are in use now."""

    @property
    def left(self) -> int:
        """How many more there can be now."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True)
class Group:
    """A cgroup that may have so many processes and threads."""

    path: PurePosixPath
    """Below /sys/fs/cgroup, which is ``/``."""

    tasks: Usage
    has_demos: bool
    """All processes of demos are in it; else only those that watch them for Podman."""


@dataclass(frozen=True, kw_only=True)
class KernelFacts:
    """Limits of the node's kernel. None where the kernel has no such limit, or does not tell."""

    memory: Usage | None
    """In bytes; what could be freed counts as free."""

    tasks: Usage | None
    """Processes and threads."""

    groups: tuple[Group, ...]
    """Groups that demos or their conmon are in, and that have a limit of their own for tasks."""

    files: Usage | None
    """Open files of all processes together."""

    open_files: int | None
    """Open files that Podman's service may have, and so its containers."""

    most_open_files: int | None
    """Open files that any process may be allowed."""

    inotify_instances: int | None
    """For each user."""

    inotify_watches: int | None
    """For each user."""

    inotify_exhausted: bool
    """Root can have no other inotify instance now."""

    aio: Usage | None
    """Events of asynchronous I/O."""

    conntrack: Usage | None
    """Connections that the node's firewall follows."""

    local_ports: range | None
    """Ports that the node's own connections begin at."""

    reserved_ports: tuple[range, ...]
    """Ports among those that no connection begins at."""


def examine_kernel(host: Host) -> KernelFacts:
    """Read the limits. Never raises."""
    return KernelFacts(
        memory=_memory(host),
        tasks=_tasks(host),
        groups=tuple(_groups(host)),
        files=_files(host),
        open_files=_open_files(host),
        most_open_files=_number(host, "fs/nr_open"),
        inotify_instances=_number(host, "fs/inotify/max_user_instances"),
        inotify_watches=_number(host, "fs/inotify/max_user_watches"),
        inotify_exhausted=_inotify_exhausted(),
        aio=_usage(_number(host, "fs/aio-max-nr"), _number(host, "fs/aio-nr")),
        conntrack=_usage(
            _number(host, "net/netfilter/nf_conntrack_max"),
            _number(host, "net/netfilter/nf_conntrack_count"),
        ),
        local_ports=_local_ports(host),
        reserved_ports=_reserved_ports(host),
    )


def _number(host: Host, name: str) -> int | None:
    text = host.read(_SYS + name).strip()
    return int(text) if text.isdecimal() else None


def _usage(limit: int | None, used: int | None) -> Usage | None:
    return None if limit is None or used is None else Usage(limit, used)


def _memory(host: Host) -> Usage | None:
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", host.read("/proc/meminfo"),
                            re.MULTILINE))  # fmt: skip
    if len(found) < 2:
        return None
    total, available = int(found["MemTotal"]) << 10, int(found["MemAvailable"]) << 10
    return Usage(total, total - available)


def _tasks(host: Host) -> Usage | None:
    # Each thread takes a process ID too. proc_loadavg(5): the fourth field has how many tasks
    # there are after the slash.
    limits = (_number(host, "kernel/pid_max"), _number(host, "kernel/threads-max"))
    known = [limit for limit in limits if limit is not None]
    found = re.match(r"\S+ \S+ \S+ \d+/(\d+) ", host.read("/proc/loadavg"))
    return Usage(min(known), int(found[1])) if known and found else None


def _groups(host: Host) -> Iterator[Group]:
    # A conmon that systemd does not move stays in the group of the Podman that started it.
    own = re.search(r"^0::(/.*)$", host.read_of_podman("cgroup"), re.MULTILINE)
    service = PurePosixPath(own[1] if own else "/")
    for path in (*_PARENTS, service, *service.parents):
        directory = f"{_CGROUPS}{path}"
        limit = host.read(f"{directory}/pids.max").strip()
        used = host.read(f"{directory}/pids.current").strip()
        # cgroup-v2.rst: "max" where there is no limit.
        if limit.isdecimal() and used.isdecimal():
            yield Group(path, Usage(int(limit), int(used)), has_demos=path in _PARENTS)


def _files(host: Host) -> Usage | None:
    # proc_sys_fs(5): allocated, free (always 0 since Linux 2.6), most.
    fields = host.read(_SYS + "fs/file-nr").split()
    if len(fields) != 3 or not all(field.isdecimal() for field in fields):
        return None
    return Usage(int(fields[2]), int(fields[0]))


def _open_files(host: Host) -> int | None:
    # Where systemd listens for Podman, the limits of systemd say nothing of Podman's.
    if host.read_of_podman("comm").strip() != "podman":
        return None
    limits = host.read_of_podman("limits")
    found = re.search(r"^Max open files +\S+ +(\d+) ", limits, re.MULTILINE)
    return int(found[1]) if found else None


def _inotify_exhausted() -> bool:
    """Try to have one more: how many a user has cannot be read anywhere."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        return False
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    if descriptor == -1:
        return ctypes.get_errno() == errno.EMFILE
    os.close(descriptor)
    return False


def _local_ports(host: Host) -> range | None:
    fields = host.read(_SYS + "net/ipv4/ip_local_port_range").split()
    if len(fields) != 2 or not all(field.isdecimal() for field in fields):
        return None
    return range(int(fields[0]), int(fields[1]) + 1)


def _reserved_ports(host: Host) -> tuple[range, ...]:
    text = host.read(_SYS + "net/ipv4/ip_local_reserved_ports")
    found = re.findall(r"(\d+)(?:-(\d+))?", text)
    return tuple(range(int(first), int(last or first) + 1) for first, last in found)
