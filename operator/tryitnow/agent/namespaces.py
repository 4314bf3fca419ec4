"""Stepping into a container's namespaces: for a socket, for a host name.

A thread has namespaces of its own and steps back before it does anything else.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CLONE_NEWUTS = 0x04000000
_CLONE_NEWNET = 0x40000000
"""From <linux/sched.h>; ``os.setns`` came with Python 3.12."""

HOST_NAME_MAX = 63
"""Longest label of a DNS name (RFC 1035); the kernel takes 64."""

_libc = ctypes.CDLL(None, use_errno=True)


def _setns(handle: int, kind: int) -> None:
    if _libc.setns(handle, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def _inside(pid: int, name: str, kind: int) -> Iterator[None]:
    """Be in a namespace of a process for the length of a block, which must not await."""
    own = os.open(f"/proc/thread-self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(target, kind)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(own, kind)
    finally:
        os.close(own)


def socket_factory(pid: int) -> Callable[[Any], socket.socket]:
    """Return a maker of sockets (for aiohttp) in the network namespace of a process.

    A socket stays in the namespace that it was made in.
    """

    def make(address: Any) -> socket.socket:  # noqa: ANN401 - getaddrinfo's tuple
        family, kind, protocol, *_ = address
        with _inside(pid, "net", _CLONE_NEWNET):
            return socket.socket(family, kind, protocol)

    return make


def host_name_of(name: str) -> str:
    """Return a name as a host may have it."""
    return name[:HOST_NAME_MAX].rstrip("-.")


def set_host_name(pid: int, name: str) -> None:
    """Give the host that a process believes to be on another name. Blocking, under 1 ms.

    Raises:
        OSError: the process is gone, is on our own host, or we may not.

    """
    own, other = Path("/proc/self/ns/uts").readlink(), Path(f"/proc/{pid}/ns/uts").readlink()
    if own == other:
        # Its number is another's by now, or the container shares the node's name.
        raise OSError(errno.EINVAL, f"process {pid} has the node's own host name")
    with _inside(pid, "uts", _CLONE_NEWUTS):
        socket.sethostname(host_name_of(name))


def write_host_files(pid: int, name: str) -> None:
    """Write a host's name into a container's ``/etc``. Blocking.

    Raises:
        OSError: the container ended, or its image has other ideas of these files.

    """
    own = host_name_of(name)
    _write_etc(pid, "hostname", f"{own}\n", os.O_TRUNC)
    _write_etc(pid, "hosts", f"127.0.1.1 {own}\n", os.O_APPEND)


def _write_etc(pid: int, file: str, text: str, flag: int) -> None:
    # Step by step and through no link: an image could lead us to a file of the node.
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        etc = os.open("etc", os.O_PATH | flags, dir_fd=root)
        try:
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flag
            handle = os.open(file, flags, dir_fd=etc)
        finally:
            os.close(etc)
    finally:
        os.close(root)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
