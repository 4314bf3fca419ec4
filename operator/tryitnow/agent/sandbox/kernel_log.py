"""What the kernel says of processes that it killed for want of memory.

Podman tells only that it happened, and never takes it back. The kernel's log tells which process,
in which cgroup, and whether a limit of that cgroup or the memory of the node was used up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_KMSG = Path("/dev/kmsg")

_RECORD_BYTES = 8192
"""The longest record (printk's PRINTK_MESSAGE_MAX is 2048); a shorter buffer is refused."""

_RECORD = re.compile(r"\d+,\d+,(?P<time>\d+),[^;]*;(?P<text>.*)")
"""Documentation/ABI/testing/dev-kmsg: priority, sequence number, microseconds, flags, message."""

_KILL = re.compile(
    r"oom-kill:constraint=(?P<constraint>\w+),.*?"
    r"(?:oom_memcg=(?P<limited>[^,]+)|global_oom),"
    r"task_memcg=(?P<cgroup>[^,]+),task=(?P<program>.*),pid=\d+,uid=\d+"
)
"""mm/oom_kill.c, ``dump_oom_victim``; a name may have a comma."""


@dataclass(frozen=True)
class OOMKill:
    """A process that the kernel killed for want of memory.

    Attributes:
        at: Monotonic seconds.
        program: Name of its program, the first 15 letters.
        cgroup: Its cgroup.
        limited: The cgroup whose limit was reached; empty where the node's memory was used up.

    """

    at: float
    program: str
    cgroup: str
    limited: str = ""

    def is_in(self, container_id: str) -> bool:
        """Whether it was a process of a container."""
        return container_id in self.cgroup

    def is_limit_of(self, container_id: str) -> bool:
        """Whether the limit of that container was reached."""
        return container_id in self.limited


def read_kernel_log(path: Path = _KMSG) -> tuple[str, ...]:
    """Return all records that the kernel still has; none where they may not be read. Blocking."""
    try:
        log = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        return tuple(_records(log))
    finally:
        os.close(log)


def _records(log: int) -> Iterator[str]:
    while True:
        try:
            record = os.read(log, _RECORD_BYTES)
        except BrokenPipeError:
            continue  # it was overwritten meanwhile: the next read begins at the oldest there is
        except OSError:
            return  # the end (EAGAIN)
        if not record:
            return
        yield record.decode(errors="replace")


def oom_kills(records: Iterable[str]) -> list[OOMKill]:
    """Return the processes that were killed for want of memory, the oldest first."""
    found = []
    for record in records:
        line = _RECORD.match(record)
        kill = _KILL.search(line["text"]) if line is not None else None
        if line is not None and kill is not None:
            at = int(line["time"]) / 1_000_000
            found.append(OOMKill(at, kill["program"], kill["cgroup"], kill["limited"] or ""))
    return found
