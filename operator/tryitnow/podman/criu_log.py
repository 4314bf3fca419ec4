"""CRIU's own log: Podman's error names the file, the reason stands in its last lines."""

from __future__ import annotations

import re
from pathlib import Path

_LOG_FILE = re.compile(r"(/\S+/(?:dump|restore)\.log)")
_RUNTIME_CALL = re.compile(r"`\S+ (checkpoint|restore) .*?--work-path (\S+)")
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
    ("Can't lookup mount", "remove the bind mount, or keep the data inside the container"),
)


def log_tail(error_text: str) -> str:
    """Return the telling end of the log file that a Podman error names, with a remedy if known.

    Empty when the text names no log or the file cannot be read.
    """
    path = _log_file(error_text)
    if path is None:
        return ""
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    lines = [
        _TIMESTAMP.sub("", line)
        for line in data[-_TAIL_BYTES:].decode(errors="replace").splitlines()
    ]
    errors = [line for line in lines if line.startswith("Error")] or lines
    tail = "\n".join(errors[-TAIL_LINES:])
    for sign, remedy in _REMEDIES:
        if sign in tail:
            return f"{tail}\nWhat to do: {remedy}"
    return tail


def _log_file(error_text: str) -> Path | None:
    if found := _LOG_FILE.search(error_text):
        return Path(found[1].rstrip(".\"'"))
    if call := _RUNTIME_CALL.search(error_text):
        name = "dump.log" if call[1] == "checkpoint" else "restore.log"
        return Path(call[2]) / name
    return None
