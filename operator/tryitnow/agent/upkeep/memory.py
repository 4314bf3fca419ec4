"""How much memory the node has left, and that the agent itself keeps little of it."""

from __future__ import annotations

import ctypes
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""mallopt(3)."""

_LARGE_BYTES = 128 << 10
"""glibc's initial value of both."""


def give_large_blocks_back() -> None:
    """Have glibc return each large block to the system when it is freed.

    By default it raises its threshold to the largest block that was ever freed: after a few
    archives an agent kept 30 MB more than it used (measured: 133 instead of 102 MB). A C library
    without ``mallopt`` has no such threshold.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)


def available_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return what new processes can have without swapping (MemAvailable of proc_meminfo(5))."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0
