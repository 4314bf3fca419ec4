"""The ports of the node that sandboxes are published on, and the one place that gives them out."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable

from tryitnow.agent.errors import NodeShortError
from tryitnow.api.limits import NO_PORT, PORT_TAKEN
from tryitnow.podman.client import ContainerState, PortMapping


class PortRange:
    """Hands out ports, each to one container at a time.

    What is taken is found anew from Podman's containers at each start (``adopt``); nothing is
    kept on disk that could disagree with it.
    """

    def __init__(self, first: int, last: int, is_free: Callable[[int], bool]) -> None:
        """Make the range; ``is_free`` tells whether no other process listens on a port."""
        self._ports = range(first, last + 1)
        self._owners: dict[int, str] = {}
        self._next = first
        self._is_free = is_free

    def adopt(self, containers: Iterable[ContainerState]) -> None:
        """Mark the ports of running containers as taken by them."""
        for container in containers:
            for mapping in container.ports:
                self._owners[mapping.host_port] = container.name

    def take(self, owner: str, container_ports: Iterable[int]) -> list[PortMapping]:
        """Return a free port for each container port; what the owner held before is let go.

        The range is walked round, so that a port is not reused at once: a browser tab of an
        ended demo should meet nobody rather than somebody else's demo.

        Raises:
            NodeShortError: there are not enough.

        """
        self.release(owner)
        mappings = []
        for container_port in container_ports:
            port = self._find()
            if port is None:
                self.release(owner)
                msg = (
                    f"no free port between {self._ports[0]} and {self._ports[-1]}; "
                    "delete a demo or widen PORT_RANGE"
                )
                raise NodeShortError(NO_PORT, msg)
            self._owners[port] = owner
            mappings.append(PortMapping(host_port=port, container_port=container_port))
        return mappings

    def _find(self) -> int | None:
        for _ in self._ports:
            port = self._next
            self._next = port + 1 if port + 1 in self._ports else self._ports[0]
            # A process of the node may listen there: Podman would refuse the port.
            if port not in self._owners and self._is_free(port):
                return port
        return None

    def keep(self, owner: str, mappings: Iterable[PortMapping]) -> None:
        """Give an owner the very ports that it had before.

        Raises:
            NodeShortError: another owner has one of them by now.

        """
        mappings = list(mappings)
        for mapping in mappings:
            holder = self._owners.get(mapping.host_port, owner)
            if holder != owner:
                msg = f"port {mapping.host_port}, which the demo had, belongs to {holder} by now"
                raise NodeShortError(PORT_TAKEN, msg)
        self.release(owner)
        for mapping in mappings:
            self._owners[mapping.host_port] = owner

    def hand_over(self, owner: str, heir: str) -> None:
        """Give all ports of an owner to another."""
        for port in self.of(owner):
            self._owners[port] = heir

    def release(self, owner: str) -> None:
        """Let go of all ports of an owner."""
        for port in [p for p, o in self._owners.items() if o == owner]:
            del self._owners[port]

    def of(self, owner: str) -> list[int]:
        """Return the ports of an owner."""
        return sorted(p for p, o in self._owners.items() if o == owner)

    def owners(self) -> set[str]:
        """Return who holds ports."""
        return set(self._owners.values())

    @property
    def limit(self) -> int:
        """Number of all ports of the range."""
        return len(self._ports)

    @property
    def taken(self) -> int:
        """Number of ports in use."""
        return len(self._owners)


def nobody_listens(port: int) -> bool:
    """Whether no process of this node listens on a TCP port, of any address."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue  # a node without IPv6
        with probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Connections that have just ended do not count as a listener.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
    return True
