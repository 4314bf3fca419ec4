"""Limits of a node, as one word each: reasons that blame neither an archive nor an application.

The work waits, or another node does it. A limit never makes a Checkpoint Stalled.
"""

from __future__ import annotations

CAPACITY_FULL = "CapacityFull"
CHECKPOINT_TOO_LARGE = "CheckpointTooLarge"
DISK_FAILING = "DiskFailing"
DISK_FULL = "DiskFull"
FILES_EXHAUSTED = "FilesExhausted"
LIMITS_UNENFORCED = "LimitsUnenforced"
MEMORY_EXHAUSTED = "MemoryExhausted"
NO_PORT = "NoPort"
PORT_TAKEN = "PortTaken"
WRONG_PROCESSOR = "WrongProcessor"

NODE_LIMITS = frozenset(
    {
        "AddressesExhausted",
        "AioExhausted",
        CAPACITY_FULL,
        "CgroupsExhausted",
        CHECKPOINT_TOO_LARGE,
        "DatabaseBusy",
        DISK_FAILING,
        DISK_FULL,
        FILES_EXHAUSTED,
        "FirewallBusy",
        "InodesExhausted",
        "InotifyInstancesExhausted",
        "InotifyWatchesExhausted",
        "KeysExhausted",
        LIMITS_UNENFORCED,
        "LocksExhausted",
        MEMORY_EXHAUSTED,
        "MountsExhausted",
        NO_PORT,
        PORT_TAKEN,
        "ProcessesExhausted",
        "WrongKernel",
        "WrongMachine",
        WRONG_PROCESSOR,
    }
)
"""All of them. ``podman.limits`` recognizes most of them in Podman's messages."""
