"""A sandbox: the pod that containers live in."""

from __future__ import annotations

from dataclasses import dataclass

from tryitnow.agent.sandbox.names import ContainerName, PodName
from tryitnow.api.definition import Definition
from tryitnow.podman.client import PortMapping


@dataclass(frozen=True)
class Sandbox:
    """A pod with its ports.

    Attributes:
        pod: The pod.
        ports: Ports of the node that lead to it.
        pid: The process that holds its namespaces; 0 while it does not run.

    """

    pod: PodName
    ports: tuple[PortMapping, ...]
    pid: int = 0

    def host_port(self, probe_port: int) -> int:
        """Return the port of the node that leads to a port of the container.

        Raises:
            KeyError: the sandbox does not publish it.

        """
        for mapping in self.ports:
            if mapping.container_port == probe_port:
                return mapping.host_port
        raise KeyError(probe_port)

    def containers(self, name: ContainerName, definition: Definition) -> dict[str, str]:
        """Return Podman's name of each container, by its name in the template.

        The main container has the sandbox's own name, which says whose it is.
        """
        return {
            member.name: str(name)
            if member.name == definition.main.name
            else self.pod.member(member.name)
            for member in definition.template.members
        }
