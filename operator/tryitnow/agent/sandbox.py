"""What the containers of one copy live in."""

from __future__ import annotations

from dataclasses import dataclass

from tryitnow.agent.names import ContainerName, PodName
from tryitnow.api.checkpoint import Blueprint, TCPPolicy
from tryitnow.podman.client import PortMapping


class SandboxError(Exception):
    """What a copy lives in, or is made of, cannot be had; the message says what to mend."""


@dataclass(frozen=True)
class Sandbox:
    """A pod with its ports and volumes; for a container that needs none, its ports alone.

    Attributes:
        ports: Ports of the node that lead to it.
        pod: The pod, if there is one.
        pid: A process in its namespaces: the one that holds the pod's, or the container's first;
            0 for a container that does not run yet.

    """

    ports: tuple[PortMapping, ...]
    pod: PodName | None = None
    pid: int = 0

    @staticmethod
    def is_sealed(blueprint: Blueprint) -> bool:
        """Whether nothing may move in a pod of these until all of its containers are thawed."""
        return (
            len(blueprint.template.members) > 1 and blueprint.freezing.tcp is TCPPolicy.ESTABLISHED
        )

    def host_port(self, probe_port: int) -> int:
        """Return the port of the node at which visitors are, who want that one of the container.

        The first one, where the definition has moved on and names a port that this copy, of an
        earlier revision, does not publish.
        """
        found = (p for p in self.ports if p.container_port == probe_port)
        return next(found, self.ports[0]).host_port

    def containers(self, name: ContainerName, blueprint: Blueprint) -> dict[str, str]:
        """Return what Podman calls each container of a copy, by its name in the template.

        The main container has the copy's own name: whose copy it is hangs on that one name, which
        changes at one stroke.
        """
        if self.pod is None:
            return {blueprint.main.name: str(name)}
        return {
            member.name: str(name) if member is blueprint.main else self.pod.member(member.name)
            for member in blueprint.template.members
        }
