"""Other users of the node's network: listeners at the demos' ports, routes, CNI."""

from __future__ import annotations

import ipaddress
import json
import re
import sys
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace

from tryitnow.doctor.host import Host, Process

_LISTENS = re.compile(
    r"^ *\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} 0A (?:\S+ +){3}\d+ +\d+ (\d+) ",
    re.MULTILINE,
)
"""A line of /proc/net/tcp: sl, local address, remote address, state (0A is TCP_LISTEN), queues,
timer, retransmissions, user, timeout, inode."""

_ROUTE = re.compile(
    r"^(\S+)\t([0-9A-F]{8})\t[0-9A-F]{8}\t(?:\w+\t){4}([0-9A-F]{8})\t", re.MULTILINE
)
"""A line of /proc/net/route: interface, destination, gateway, flags, references, uses, metric,
mask."""

_CNI = "/etc/cni/net.d"


@dataclass(frozen=True)
class Listener:
    """Somebody who listens at a port that demos are published on."""

    port: int
    process: Process | None
    """Who; None where it cannot be seen from here."""


@dataclass(frozen=True)
class Route:
    """A network that the node reaches, and how."""

    network: ipaddress.IPv4Network
    interface: str


@dataclass(frozen=True)
class NetworkFacts:
    """The node's network as far as demos meet it."""

    listeners: tuple[Listener, ...]
    conmons: tuple[Process, ...]
    """Those who watch containers for a Podman, this one or another."""

    routes: tuple[Route, ...]
    """Without the default route."""

    cni: tuple[ipaddress.IPv4Network, ...]
    """Networks of the CNI configuration that the node's Pods get their addresses by."""


def examine_network(host: Host, ports: range) -> NetworkFacts:
    """Look at the node's network. Never raises."""
    return NetworkFacts(
        listeners=tuple(_listeners(host, ports)),
        conmons=host.conmons(),
        routes=tuple(_routes(host)),
        cni=tuple(_cni_networks(host)),
    )


def strays(conmons: Iterable[Process], container_ids: Set[str] | None) -> tuple[Process, ...]:
    """Return those who watch containers that Podman does not have; none where it does not tell.

    They are another Podman's, or were left behind when this one was killed.
    """
    if container_ids is None:
        return ()
    return tuple(conmon for conmon in conmons if conmon.container not in container_ids)


def seen_twice(first: NetworkFacts, second: NetworkFacts) -> NetworkFacts:
    """Return the second result without processes that were not in the first."""
    return replace(
        second,
        listeners=tuple(each for each in second.listeners if each in first.listeners),
        conmons=tuple(each for each in second.conmons if each in first.conmons),
    )


def _listeners(host: Host, ports: range) -> Iterator[Listener]:
    found = {}
    for table in ("tcp", "tcp6"):
        for port, inode in _LISTENS.findall(host.read_network(table)):
            if int(port, 16) in ports:
                found[int(port, 16)] = inode
    if not found:
        return
    holders = host.holders_of_sockets(set(found.values()))
    for port, inode in sorted(found.items()):
        yield Listener(port, holders.get(inode))


def _routes(host: Host) -> Iterator[Route]:
    for interface, address, mask in _ROUTE.findall(host.read_network("route")):
        network = ipaddress.IPv4Network(f"{_address(address)}/{_address(mask)}", strict=False)
        if network.prefixlen:
            yield Route(network, interface)


def _address(field: str) -> ipaddress.IPv4Address:
    # The kernel writes the four bytes as a number of the machine's own order.
    return ipaddress.IPv4Address(int(field, 16).to_bytes(4, sys.byteorder))


def _cni_networks(host: Host) -> Iterator[ipaddress.IPv4Network]:
    """Return the networks of the first configuration: runtimes use no other (containerd, CRI-O)."""
    names = [
        name for name in host.list_on_node(_CNI) if name.endswith((".conf", ".conflist", ".json"))
    ]
    if not names:
        return
    try:
        configuration = json.loads(host.read_on_node(f"{_CNI}/{min(names)}"))
    except ValueError:
        return
    # Podman before 4 had its own network there.
    if isinstance(configuration, dict) and configuration.get("name") == "podman":
        return
    for subnet in _subnets(configuration):
        try:
            yield ipaddress.IPv4Network(subnet, strict=False)
        except ValueError:  # IPv6, or a name that a plugin fills in
            continue


def _subnets(part: object) -> Iterator[str]:
    """Return all values of "subnet", wherever the plugin has them (host-local: ipam.ranges)."""
    if isinstance(part, list):
        for item in part:
            yield from _subnets(item)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key == "subnet" and isinstance(value, str):
                yield value
            else:
                yield from _subnets(value)
