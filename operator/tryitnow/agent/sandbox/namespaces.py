"""Stepping into a container's namespaces: for a socket, for a firewall, for a host name.

A thread has namespaces of its own and steps back before it does anything else.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tryitnow.api.network import IPAddress

_CLONE_NEWUTS = 0x04000000
_CLONE_NEWNET = 0x40000000
"""From <linux/sched.h>; ``os.setns`` came with Python 3.12."""

HOST_NAME_MAX = 63
"""Longest label of a DNS name (RFC 1035); the kernel takes 64."""

_ETC_BYTES = 64 << 10
"""Most that is read of a file in /etc."""

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
            if os.fstat(own).st_ino == os.fstat(target).st_ino:
                # The process ended, and its number belongs to another process of the node by now.
                raise OSError(errno.ESRCH, f"process {pid} is in no sandbox any more")
            _setns(target, kind)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(own, kind)
    finally:
        os.close(own)


def network_of(pid: int) -> AbstractContextManager[None]:
    """Be in the network namespace of a process for the length of a block, which must not await.

    Raises:
        OSError: the process ended; its number may belong to one in the node's own network.

    """
    return _inside(pid, "net", _CLONE_NEWNET)


def socket_factory(pid: int) -> Callable[[Any], socket.socket]:
    """Return a maker of sockets (for aiohttp) in the network namespace of a process.

    A socket stays in the namespace that it was made in.
    """

    def make(address: Any) -> socket.socket:  # noqa: ANN401 - getaddrinfo's tuple
        family, kind, protocol, *_ = address
        with network_of(pid):
            return socket.socket(family, kind, protocol)

    return make


def host_name_of(name: str) -> str:
    """Return a name as a host may have it."""
    return name[:HOST_NAME_MAX].rstrip("-.")


class Hosts:
    """Names hosts, and writes ``/etc/hosts``, of containers. All methods block, under 1 ms."""

    def set_name(self, pid: int, name: str) -> None:
        """Give the host that a process believes to be on another name.

        Raises:
            OSError: the process is gone, is on our own host, or we may not.

        """
        with _inside(pid, "uts", _CLONE_NEWUTS):
            socket.sethostname(host_name_of(name))

    def is_shared(self, pid: int, other: int) -> bool:
        """Whether two processes believe to be on the same host; False where one has ended."""
        try:
            found = [Path(f"/proc/{each}/ns/uts").stat().st_ino for each in (pid, other)]
        except OSError:
            return False
        return found[0] == found[1]

    def write_files(self, pid: int, name: str) -> None:
        """Write a host's name into a container's ``/etc``.

        Raises:
            OSError: the container ended, or its image has other ideas of these files.

        """
        own = host_name_of(name)
        _write_etc(pid, "hostname", f"{own}\n", os.O_TRUNC)
        _add_hosts(pid, [f"127.0.1.1 {own}"])

    def carry(self, pid: int, hosts: str) -> None:
        """Add the lines of an /etc/hosts that a container had at its checkpoint.

        Lines about the host that it was checkpointed on are left out.

        Raises:
            OSError: the container ended, or its image has other ideas of these files.

        """
        _add_hosts(pid, _own_lines(hosts))

    def set_egress(self, pid: int, hosts: Iterable[tuple[str, IPAddress]]) -> None:
        """Have these hosts in the /etc/hosts that the containers of a sandbox share.

        Those that were set before go.

        Raises:
            OSError: the sandbox ended.

        """
        present = _read_etc(pid, "hosts")
        lines = [line for line in present.splitlines() if not line.endswith(_EGRESS_MARK)]
        lines += [f"{address}\t{host} {_EGRESS_MARK}" for host, address in hosts]
        text = "".join(f"{line}\n" for line in lines)
        if text != present:
            with _open_etc(pid, "hosts", os.O_WRONLY) as handle:
                # Not emptied first: an application may read it at this moment.
                os.pwrite(handle, text.encode(errors="surrogateescape"), 0)
                os.ftruncate(handle, len(text.encode(errors="surrogateescape")))

    def read(self, pid: int) -> str:
        """Return a container's /etc/hosts; empty where it has none."""
        try:
            return _read_etc(pid, "hosts")
        except OSError:
            return ""


def _add_hosts(pid: int, lines: list[str]) -> None:
    present = _read_etc(pid, "hosts")
    missing = [line for line in lines if line not in present.splitlines()]
    if missing:
        end = "" if present.endswith("\n") or not present else "\n"
        _write_etc(pid, "hosts", end + "".join(f"{line}\n" for line in missing), os.O_APPEND)


_EGRESS_MARK = "# spec.network.egress"
"""At the end of a line of /etc/hosts that the firewall's addresses are in."""

_HOSTS_OF_PODMAN = ("host.containers.internal", "localhost")


def _own_lines(hosts: str) -> list[str]:
    """Return the lines that neither Podman nor we have written.

    Podman's lines about the container itself carry its address in the Podman network, and it writes
    new ones for each container (``libpod/container_internal_common.go``, ``createHostsFile``).
    """
    kept = []
    for line in hosts.splitlines():
        if line.endswith(_EGRESS_MARK):
            continue  # as they were at the checkpoint
        address, *names = line.partition("#")[0].split() or [""]
        if not names or any(name in _HOSTS_OF_PODMAN for name in names):
            continue
        ours = any(name.startswith("tryitnow_") for name in names)
        if address == "127.0.1.1" or ours or _is_of_podman(address):
            continue
        kept.append(line)
    return kept


def _is_of_podman(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    # Podman's default networks (containers.conf(5), default_subnet and default_subnet_pools).
    return found.version == 4 and found in ipaddress.ip_network("10.88.0.0/15")


def _write_etc(pid: int, file: str, text: str, flag: int) -> None:
    with _open_etc(pid, file, os.O_WRONLY | flag) as handle:
        os.write(handle, text.encode(errors="surrogateescape"))


def _read_etc(pid: int, file: str) -> str:
    with _open_etc(pid, file, os.O_RDONLY) as handle:
        return os.read(handle, _ETC_BYTES).decode(errors="surrogateescape")


@contextmanager
def _open_etc(pid: int, file: str, flags: int) -> Iterator[int]:
    # Step by step and through no link: an image could lead us to a file of the node.
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        etc = os.open("etc", directory, dir_fd=root)
        try:
            flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            handle = os.open(file, flags, dir_fd=etc)
        finally:
            os.close(etc)
    finally:
        os.close(root)
    try:
        yield handle
    finally:
        os.close(handle)
