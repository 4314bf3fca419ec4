"""CRIU's own log: Podman's error names the file, the reason stands in its last lines.

What stands in an error is partly the application's, such as the path of a command that is missing.
So only what can be a log of Podman's is read: one directory of its storage has that form, and no
link below that is followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import PurePosixPath

_USERDATA = r"(/\S+)/([a-z]+-containers)/([0-9a-f]{64})/userdata"
"""A container's own directory in Podman's storage (containers/storage, ``ContainerDirectory``)."""

_LOG_FILE = re.compile(_USERDATA + r"/(dump|restore)\.log")
_RUNTIME_CALL = re.compile(r"`\S+ (checkpoint|restore) .*?--work-path " + _USERDATA)
"""Podman quotes the OCI runtime's command line where the runtime itself said nothing."""

_TIMESTAMP = re.compile(r"^\(\d+\.\d+\)\s*")

TAIL_LINES = 8
"""Enough for CRIU's chain of causes, short enough for a condition."""

_TAIL_BYTES = 65536

# From CRIU's message to what a user does about it. Each was met on real applications.
_REMEDIES = (
    ("file locks are hold", "set spec.criu.fileLocks: true"),
    (
        "infect",
        "a mapping cannot be taken over, as PHP's JIT buffer is: set opcache.jit_buffer_size=0",
    ),
    (
        "ghost file",
        "close the deleted file before the freeze, or raise ghost-limit in /etc/criu/crun.conf",
    ),
    ("Connected TCP socket", "close the connection before the freeze, or set spec.criu.tcp"),
    ("io_uring", "switch io_uring off in the application (MariaDB: innodb_use_native_aio=0)"),
    (
        "Can't lookup mount",
        "remove the bind mount, or keep the data inside the container; POSIX message queues "
        "(/dev/mqueue) cannot be frozen",
    ),
    (
        "Can't dump that handle",
        "a file is watched (inotify) that lies where CRIU does not look for it: name its directory "
        "in /etc/criu/crun.conf of the agents' Podman, as irmap-scan-path=/DIRECTORY",
    ),
    (
        "Can't get rlimit",
        "CRIU may not read the limits of another user's process: Podman needs CAP_SYS_RESOURCE on "
        "this node, as the agent's privileged Pod has it",
    ),
    (
        "nested user namespace",
        "a process runs in a user namespace of its own, as a browser's sandbox does: switch that "
        "off (Chromium: --no-sandbox)",
    ),
)


def log_tail(error_text: str) -> str:
    """Return the telling end of the log file that a Podman error names, with a remedy if known.

    Empty when the text names no log or the file cannot be read.
    """
    data = _read(error_text)
    lines = [_TIMESTAMP.sub("", line) for line in data.decode(errors="replace").splitlines()]
    errors = [line for line in lines if line.startswith("Error")] or lines
    tail = "\n".join(errors[-TAIL_LINES:])
    for sign, remedy in _REMEDIES:
        if sign in tail:
            return f"{tail}\nWhat to do: {remedy}"
    return tail


def _read(error_text: str) -> bytes:
    if found := _LOG_FILE.search(error_text):
        storage, containers, id_, name = found.groups()
    elif found := _RUNTIME_CALL.search(error_text):
        verb, storage, containers, id_ = found.groups()
        name = "dump" if verb == "checkpoint" else "restore"
    else:
        return b""
    try:
        # The storage itself may lie behind a link of the administrator's.
        return _tail_of(storage, PurePosixPath(containers, id_, "userdata", f"{name}.log"))
    except OSError:
        return b""


def _tail_of(directory: str, below: PurePosixPath) -> bytes:
    with contextlib.ExitStack() as opened:

        def step(path: str, flags: int, at: int | None = None) -> int:
            number = os.open(path, flags | os.O_RDONLY | os.O_NONBLOCK, dir_fd=at)
            opened.callback(os.close, number)
            return number

        here = step(directory, os.O_DIRECTORY)
        for part in below.parts[:-1]:
            here = step(part, os.O_DIRECTORY | os.O_NOFOLLOW, here)
        log = step(below.name, os.O_NOFOLLOW, here)
        found = os.fstat(log)
        if not stat.S_ISREG(found.st_mode):
            return b""
        return os.pread(log, _TAIL_BYTES, max(0, found.st_size - _TAIL_BYTES))
