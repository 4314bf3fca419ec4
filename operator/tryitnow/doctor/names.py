"""Names of the checks, and the consequences of their failures."""

from __future__ import annotations

from enum import StrEnum


class CheckName(StrEnum):
    """Names of the checks, in their order. Programs know checks by them: they never change."""

    LINUX = "Linux"
    ROOT = "root"
    PODMAN = "Podman"
    STORAGE_DRIVER = "storage driver"
    RUNTIME = "OCI runtime"
    CRIU_ENABLED = "CRIU_ENABLED"
    CRIU_VERSION = "CRIU"
    CRIU_CHECK = "criu check"
    CRIU_CACHE = "CRIU cache"
    NETWORK_LOCK = "network lock"
    SELINUX = "SELinux"
    CGROUPS = "cgroups"
    LIMITS = "resource limits"
    FIREWALL = "firewall"
    DIRECTORY = "checkpoint path"
    SWAP = "swap"
    CORE_DUMPS = "core dumps"
    FREE_SPACE = "free space"
    STORAGE_SPACE = "storage space"
    INODES = "inodes"
    MEMORY = "memory"
    PROCESSES = "processes"
    FILES = "open files"
    INOTIFY = "inotify"
    AIO = "AIO"
    CONNTRACK = "conntrack"
    LOCKS = "Podman locks"
    PORTS = "ports"
    LOCAL_PORTS = "local ports"
    NETWORK = "demo network"


ESSENTIAL = frozenset({CheckName.LINUX, CheckName.ROOT, CheckName.PODMAN})
"""Without these nothing can be started, not even cold."""

NODE_LIMITS = frozenset(
    {
        CheckName.LIMITS,
        CheckName.FREE_SPACE,
        CheckName.STORAGE_SPACE,
        CheckName.INODES,
        CheckName.MEMORY,
        CheckName.PROCESSES,
        CheckName.FILES,
        CheckName.INOTIFY,
        CheckName.AIO,
        CheckName.LOCKS,
        CheckName.PORTS,
        CheckName.LOCAL_PORTS,
        CheckName.CONNTRACK,
        CheckName.NETWORK,
    }
)
"""Limits of the node. One that fails leaves no room for another demo, restored or cold; one that
warns holds fewer than MAX_INSTANCES. Neither says anything about CRIU."""

OF_PODMAN = frozenset(
    {CheckName.STORAGE_DRIVER, CheckName.RUNTIME, CheckName.CRIU_CACHE, CheckName.SELINUX,
     CheckName.STORAGE_SPACE, CheckName.LOCKS, CheckName.NETWORK}
)  # fmt: skip
"""Checks of what only Podman tells: left out while it does not answer."""
