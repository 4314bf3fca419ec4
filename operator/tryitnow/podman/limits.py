"""Limits of the node, as Podman, crun, netavark and CRIU word them, each with its remedy.

A limit of the node is the node's fault: it is waited for, or gone around on another node, and is
never counted against an archive.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from tryitnow.api.limits import (
    DISK_FAILING,
    DISK_FULL,
    MEMORY_EXHAUSTED,
    PORT_TAKEN,
    WRONG_PROCESSOR,
)
from tryitnow.podman.errors import NodeLimitError, cause_first

INODES_EXHAUSTED = "InodesExhausted"
LOCKS_EXHAUSTED = "LocksExhausted"
PROCESSES_EXHAUSTED = "ProcessesExhausted"

OF_A_CONTAINER_TOO = frozenset({PROCESSES_EXHAUSTED, MEMORY_EXHAUSTED})
"""Limits that a container may have of its own: a command that is run in it meets those first."""

_MORE_ROOM = (
    "free space on the file systems of /var/lib/containers and /var/lib/try-it-now (`df -h` "
    "tells), or give them a larger disk"
)
_ANOTHER_MACHINE = "keep the Checkpoint to one kind of node by spec.distribution.nodeSelector"


@dataclass(frozen=True)
class Limit:
    """A limit of the node.

    Attributes:
        name: One word for it.
        signs: What stands in a message when it is reached, as regular expressions.
        remedy: What a person does about it.
        permanent: Whether the node can never get over it: it is the wrong kind of machine.

    """

    name: str
    signs: tuple[str, ...]
    remedy: str
    permanent: bool = False


LIMITS = (
    # The first that fits, so those that share an errno with a plainer one stand before it.
    Limit(
        LOCKS_EXHAUSTED,
        (r"exceeded num_locks", r"allocating lock for new \w+: .*no space left on device"),
        "remove unused containers, pods and volumes (`podman ps --all --external`, "
        "`podman volume prune`), or raise num_locks in the [engine] part of the containers.conf of "
        "the agents' Podman and run `podman system renumber` while nothing runs",
    ),
    Limit(
        "InotifyWatchesExhausted",
        (
            r"(inotify_add_watch|add (inotify )?watch|watcher).*no space left on device",
            r"inotify watch(es)? limit reached",
        ),
        "raise fs.inotify.max_user_watches on the node (`sysctl -w`, and a file in /etc/sysctl.d)",
    ),
    Limit(
        "InotifyInstancesExhausted",
        (r"(inotify|watcher).*too many open files",),
        "raise fs.inotify.max_user_instances on the node (`sysctl -w`, and a file in "
        "/etc/sysctl.d)",
    ),
    Limit(
        "AioExhausted",
        (r"ring setup failed with -11\b", r"io_setup.*(resource temporarily unavailable|EAGAIN)"),
        "raise fs.aio-max-nr on the node (`sysctl -w`, and a file in /etc/sysctl.d)",
    ),
    Limit(
        "WrongMachine",
        (r"wrong aio: tail=",),
        "the application uses the kernel's asynchronous I/O, and the size of its ring depends on "
        "the number of processors that the machine could have: "
        f"{_ANOTHER_MACHINE}, or switch it off in the application (MySQL: "
        "innodb_use_native_aio=0)",
        permanent=True,
    ),
    Limit(
        "WrongMachine",
        (r"No mapping for \d+:\(null\) mountpoint",),
        "the kernel of the node that built the checkpoint has paths of /proc or /sys that are "
        "hidden from containers, such as /proc/kcore, and the kernel of this node lacks one: "
        f"{_ANOTHER_MACHINE}",
        permanent=True,
    ),
    Limit(
        WRONG_PROCESSOR,
        (
            r"host cpu doesn't support it",
            r"CPU (instruction )?capabilities do not match run time",
            r"CPU Feature \S+ not supported on host",
            r"CPU xsave (max )?size mismatch|CPU xfeatures has unsupported bits",
            r"FPU feature required by image is not supported on host",
            r"killed by signal 4\b",
        ),
        f"the processor lacks features that the checkpoint uses: {_ANOTHER_MACHINE}",
        permanent=True,
    ),
    Limit(
        "WrongKernel",
        (
            r"rseq: can't restore as kernel doesn't support it",
            r"because kernel does only support vmas up to",
            r"vDSO isn't provided by kernel, but exists in images",
            r"kernel lacks get_rseq_conf feature",
        ),
        "the kernel lacks a feature that the checkpoint needs: use one as new as that of the node "
        f"that built it, or {_ANOTHER_MACHINE}",
        permanent=True,
    ),
    Limit(
        "CgroupsExhausted",
        (
            r"/sys/fs/cgroup\S*.*no space left on device",
            r"mkdir .?/sys/fs/cgroup\S*.*resource temporarily unavailable",
        ),
        "remove unused containers from the node: its kernel has no more memory cgroups, or "
        "cgroup.max.descendants of a parent is reached",
    ),
    Limit(
        "MountsExhausted",
        (r"crun: mount `.*no space left on device",),
        "raise fs.mount-max on the node (`sysctl -w`, and a file in /etc/sysctl.d)",
    ),
    Limit(
        "KeysExhausted",
        (r"create keyring.*disk quota exceeded",),
        "raise kernel.keys.maxkeys and kernel.keys.maxbytes on the node, or set `keyring = false` "
        "in the [containers] part of the containers.conf of the agents' Podman",
    ),
    Limit(
        DISK_FULL,
        (r"no space left on device", r"disk quota exceeded"),
        _MORE_ROOM,
    ),
    Limit(
        DISK_FAILING,
        (r"input/output error", r"structure needs cleaning"),
        "the disk or its file system fails: see the node's kernel log (`dmesg`)",
    ),
    Limit(
        "FilesExhausted",
        (r"too many open files",),
        "raise fs.file-max on the node, or the limit of open files (LimitNOFILE) of the agents' "
        "Podman",
    ),
    Limit(
        PORT_TAKEN,
        (
            r"cannot listen on the (tcp|udp|sctp) port",
            r"listen (tcp|udp)\S* .*address already in use",
            r"(netavark|aardvark|rootlessport).*address already in use",
            r": bind: address already in use",
        ),
        "another program of the node listens there (`ss --listening --processes --tcp --udp` tells "
        "which): stop it, or leave the port out of agent.portRange",
    ),
    Limit(
        "AddressesExhausted",
        (r"failed to find free ip in range",),
        "remove unused pods from the node, or give Podman's network a larger subnet "
        "(default_subnet in the [network] part of the containers.conf of the agents' Podman)",
    ),
    Limit(
        "FirewallBusy",
        (
            r"xtables lock",
            r"i?p6?tables.*(resource temporarily unavailable|chain already exists)",
            r"(netavark|nftables|nft).*(device or resource busy|resource temporarily unavailable)",
            r"nft did not return successfully",
        ),
        "another program changes the node's firewall at this moment; it is tried again. Where it "
        "stays so, look into the log of the agents' Podman for the firewall's messages",
    ),
    Limit(
        "DatabaseBusy",
        (r"database is locked",),
        "Podman's database is busy; it is tried again. Where it stays so, the disk below "
        "/var/lib/containers is too slow, or a podman that hangs has the database open",
    ),
    Limit(
        PROCESSES_EXHAUSTED,
        (
            r"(v?fork|fork/exec \S+|clone3?|pthread_create)\b.*resource temporarily unavailable",
            r"(can't|cannot|can not|failed to|unable to) (fork|clone|create (new )?thread)"
            r".*resource temporarily unavailable",
        ),
        "the node has no more process IDs for Podman: raise kernel.pid_max and "
        "kernel.threads-max, or pids.max of the cgroup that Podman runs in",
    ),
    Limit(
        MEMORY_EXHAUSTED,
        (r"cannot allocate memory", r"\bout of memory\b"),
        "the node has no memory left: run fewer demos and warm sandboxes on it "
        "(agent.maxInstances, spec.pool.warm), or raise agent.memoryReserveMiB",
    ),
)

_PATTERNS = tuple((limit, re.compile("|".join(limit.signs), re.IGNORECASE)) for limit in LIMITS)

_FULL_PATH = re.compile(r"(/[^\s:\"'`]+)[\"'`]?: no space left on device", re.IGNORECASE)

_NO_INODES = (
    "the file system has space and no inodes (see `df -i`): remove small files, or make it anew "
    "with more inodes"
)

_BY_NUMBER = {
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL,
    errno.EIO: DISK_FAILING,
    errno.EROFS: DISK_FAILING,
    errno.EUCLEAN: DISK_FAILING,
    errno.EMFILE: "FilesExhausted",
    errno.ENFILE: "FilesExhausted",
    errno.ENOMEM: MEMORY_EXHAUSTED,
    errno.EAGAIN: PROCESSES_EXHAUSTED,
}


def limit_in(text: str) -> Limit | None:
    """Return the limit of the node that a message is about, line by line in reading order."""
    for line in text.splitlines():
        for limit, pattern in _PATTERNS:
            if pattern.search(line):
                return limit
    return None


def as_node_limit(message: str, details: str = "") -> NodeLimitError | None:
    """Return the error for a message that is about a limit of the node.

    Args:
        message: What Podman said.
        details: What else is known and shown with it, such as the telling lines of CRIU's log.

    """
    limit = limit_in(details) or limit_in(message)
    if limit is None:
        return None
    name, remedy = limit.name, limit.remedy
    if name == DISK_FULL and any(map(lacks_inodes, _FULL_PATH.findall(message))):
        name, remedy = INODES_EXHAUSTED, _NO_INODES
    whole = cause_first(message, details)
    return NodeLimitError(whole, limit=name, remedy=remedy, permanent=limit.permanent)


def limit_of(error: OSError) -> NodeLimitError | None:
    """Return the limit of the node that an error of the operating system is, where it is one."""
    name = _BY_NUMBER.get(error.errno or 0)
    if name is None:
        return None
    remedy = next(limit.remedy for limit in LIMITS if limit.name == name)
    if name == DISK_FULL and error.filename and lacks_inodes(str(error.filename)):
        name, remedy = INODES_EXHAUSTED, _NO_INODES
    return NodeLimitError(str(error), limit=name, remedy=remedy)


def lacks_inodes(path: str) -> bool:
    """Whether the file system of a path has no inode left; a path that is not there counts not."""
    here = Path(path)
    while not here.exists() and here != here.parent:
        here = here.parent
    try:
        found = os.statvfs(here)
    except OSError:
        return False
    # File systems that make inodes as they go, such as btrfs, say 0 of 0.
    return found.f_files > 0 and found.f_favail == 0
