"""The ports of the node that demos are published on."""

from __future__ import annotations

from collections.abc import Iterable

from tryitnow.podman.client import ContainerState, PortMapping


class NoPortError(Exception):
    """All ports of the range are taken; one gets free when an instance ends."""


class PortRange:
    """Hands out ports, each to one container at a time.

    What is taken is found anew from Podman's containers at each start (``adopt``); nothing is
    kept on disk that could disagree with it.
    """

    def __init__(self, first: int, last: int) -> None:
        self._ports = range(first, last + 1)
        self._owners: dict[int, str] = {}
        self._next = first

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
            NoPortError: there are not enough.

        """
        self.release(owner)
        mappings = []
        for container_port in container_ports:
            port = self._find()
            if port is None:
                self.release(owner)
                msg = (
                    f"no free port between {self._ports[0]} and {self._ports[-1]}; "
                    "delete an instance or widen PORT_RANGE"
                )
                raise NoPortError(msg)
            self._owners[port] = owner
            mappings.append(PortMapping(host_port=port, container_port=container_port))
        return mappings

    def _find(self) -> int | None:
        for _ in self._ports:
            port = self._next
            self._next = port + 1 if port + 1 in self._ports else self._ports[0]
            if port not in self._owners:
                return port
        return None

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
