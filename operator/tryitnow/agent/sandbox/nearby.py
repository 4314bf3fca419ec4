"""Addresses that demos must not reach by accident: the node's, the API server's, each other's.

An administrator opens them by an entry of ``agent.network.allowedEgress`` that lies within them. A
wide entry, such as 0.0.0.0/0, means what is beyond.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from tryitnow.api.network import IPAddress, IPNetwork


def _networks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


METADATA = _networks(
    # Link-local: AWS, Azure, GCP, OpenStack and most others (169.254.169.254).
    "169.254.0.0/16",
    "fe80::/10",
    "fd00:ec2::/32",  # AWS
    "fd20:ce::254/128",  # GCP
    "100.100.100.200/32",  # Alibaba
    "192.0.0.192/32",  # Oracle
    "168.63.129.16/32",  # Azure, among the public addresses
)
"""Where clouds tell a node its credentials."""

NOT_PUBLIC = _networks(
    # The special-purpose address registries (RFC 6890) and multicast.
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    # Of IPv6 only 2000::/3 is public, but for tunnels to IPv4 and what is for documentation.
    "::/3",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "4000::/2",
    "8000::/1",
)
"""Networks of nodes, Pods, Services and neighbours, and addresses with a meaning of their own."""

LOOPBACK = _networks("127.0.0.0/8", "::1/128")

_LOCAL = re.compile(r"\|-- ([0-9.]+)\n +/32 host LOCAL")
"""Two lines of /proc/net/fib_trie: an address, and that it is one of this host's."""

_INTERFACE_ADDRESS = re.compile(r"^([0-9a-f]{32}) [0-9a-f]+ ([0-9a-f]{2}) ", re.MULTILINE)
"""A line of /proc/net/if_inet6: address, number of the interface, length of the prefix, …"""

_ON_LINK = re.compile(r"^\S+\t([0-9A-F]{8})\t00000000\t(?:\w+\t){4}([0-9A-F]{8})\t", re.MULTILINE)
"""A line of /proc/net/route without a gateway: interface, destination, …, mask."""


class Nearby:
    """Knows which addresses are near a sandbox. All methods block, under 1 ms."""

    def __init__(self, api_server: str | None = None, proc: Path = Path("/proc")) -> None:
        """Know the host of the API server, as the agent reaches it, where there is one."""
        self._api_server = api_server
        self._proc = proc

    def of_node(self) -> frozenset[IPNetwork]:
        """Return the node's own addresses, those of the API server, and those of metadata.

        Raises:
            OSError: they cannot be read.

        """
        found: set[IPNetwork] = {*METADATA, *LOOPBACK}
        found.update(ipaddress.ip_network(each) for each in self._own_addresses())
        found.update(ipaddress.ip_network(each) for each in self._api_addresses())
        return frozenset(found)

    def of_sandbox(self, pid: int) -> frozenset[IPNetwork]:
        """Return the networks that a sandbox is in: its neighbours are there.

        Raises:
            OSError: it has ended.

        """
        network = self._proc / str(pid) / "net"
        found: set[IPNetwork] = set()
        for destination, mask in _ON_LINK.findall((network / "route").read_text()):
            address = f"{_host_order(destination)}/{_host_order(mask)}"
            found.add(ipaddress.ip_network(address, strict=False))
        for digits, length in _inet6(network):
            packed = f"{ipaddress.IPv6Address(int(digits, 16))}/{int(length, 16)}"
            found.add(ipaddress.ip_network(packed, strict=False))
        return frozenset(found)

    def _own_addresses(self) -> Iterable[IPAddress]:
        network = self._proc / "self/net"
        for text in _LOCAL.findall((network / "fib_trie").read_text()):
            yield ipaddress.IPv4Address(text)
        for digits, _ in _inet6(network):
            yield ipaddress.IPv6Address(int(digits, 16))

    def _api_addresses(self) -> Iterable[IPAddress]:
        if self._api_server is None:
            return
        try:
            found = socket.getaddrinfo(self._api_server, None, type=socket.SOCK_STREAM)
        except socket.gaierror:
            return  # then the agent does not reach it either
        for *_, address in found:
            yield ipaddress.ip_address(str(address[0]).partition("%")[0])


def _inet6(network: Path) -> list[tuple[str, str]]:
    try:
        return _INTERFACE_ADDRESS.findall((network / "if_inet6").read_text())
    except FileNotFoundError:
        return []  # a kernel without IPv6


def _host_order(field: str) -> ipaddress.IPv4Address:
    # The kernel writes the four bytes as a number of the machine's own order.
    return ipaddress.IPv4Address(int(field, 16).to_bytes(4, sys.byteorder))
