"""The process that listens at Podman's socket: Podman itself, or systemd for it."""

from __future__ import annotations

import socket
import struct

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where commands are, for a process without a PATH of its own."""

_UCRED = struct.Struct("3i")
"""The kernel's struct ucred (unix(7)): process, user, group of whoever began to listen."""


def listening_process(path: str, seconds: float) -> int:
    """Return the process that listens at a UNIX socket; 0 when it is not seen from here.

    Args:
        path: The socket.
        seconds: How long the connection may take.

    Raises:
        OSError: no process listens there, or it cannot be reached.

    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, _, _ = _UCRED.unpack(raw)
    return int(pid)
