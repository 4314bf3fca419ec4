"""Limits of a node, as one word each: reasons that blame neither an archive nor an application.

They are waited for, or gone around on another node. They never end a Checkpoint as Stalled.
"""

from __future__ import annotations

DISK_FULL = "DiskFull"
DISK_FAILED = "DiskFailed"
MEMORY_FULL = "MemoryFull"
PORT_TAKEN = "PortTaken"
NO_PORT = "NoPort"

NODE_LIMITS = frozenset(
    {
        "AIOLimit",
        "DatabaseBusy",
        DISK_FAILED,
        DISK_FULL,
        "FilesLimit",
        "InodesFull",
        "InotifyLimit",
        "LocksExhausted",
        MEMORY_FULL,
        "NetworkBusy",
        NO_PORT,
        PORT_TAKEN,
        "ProcessLimit",
    }
)
"""All of them."""
