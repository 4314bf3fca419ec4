"""Pre-created sandboxes: everything but processes, made ahead of time.

A pre-created sandbox has its network, firewall, volumes, layers and OCI configuration. Its
containers have never run; a restore only reads the pages into them. Making one takes 0.24 s and
restoring into it 0.27 s, where Podman's import of the same archive takes 2.4 s (measured in turn,
WordPress with MariaDB, podman 5.8).

This leans on what Podman does not promise: that a stopped container can be restored from images
that are linked into its directory. The system tests ask for it on each version.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import ContainerName
from tryitnow.agent.sandbox.secrets import read_sources
from tryitnow.agent.storage.generations import Generation
from tryitnow.api.definition import Definition
from tryitnow.api.template import Container
from tryitnow.background import gather_results, in_thread
from tryitnow.podman.client import PortMapping


@dataclass(frozen=True)
class PreCreated:
    """A pre-created sandbox. It holds a lease on its generation until it is used or removed."""

    name: ContainerName
    sandbox: Sandbox
    generation: Generation


async def precreate(
    tools: StartTools,
    name: ContainerName,
    definition: Definition,
    generation: Generation,
    *,
    ports: Iterable[PortMapping] = (),
) -> PreCreated:
    """Make a sandbox to restore into. When that fails, nothing is left.

    Raises:
        SourceError: a Secret or a ConfigMap is missing.
        NodeShortError, NodeLimitError: a limit of the node is reached.
        PodmanError: Podman could not make it.
        FirewallError, VolumeError, OSError: its network or its volumes cannot be made.

    """
    template = definition.template
    sources = await read_sources(tools.kubernetes, tools.account, name.owner.namespace, template)

    async def one(sandbox: Sandbox, container: Container, own: str) -> None:
        image = generation.images[container.name]
        static_dir = await tools.containers.create_stopped(
            definition, sandbox, container, own, image, sources
        )
        await in_thread(generation.link_images, container.name, static_dir)

    with generation.leased():
        async with tools.sandboxes.create(
            name, definition, ports=ports, tcp_blocked=definition.blocks_tcp
        ) as sandbox:
            await in_thread(_fill_volumes, tools, sandbox, definition, generation)
            await in_thread(tools.volumes.write, sandbox.pod.tag, sources.files)
            names = sandbox.containers(name, definition)
            await gather_results(
                one(sandbox, container, names[container.name]) for container in template.members
            )
        generation.acquire()
    return PreCreated(name, sandbox, generation)


async def remove_precreated(tools: StartTools, unused: PreCreated) -> None:
    """Remove a pre-created sandbox that nobody uses."""
    try:
        await tools.sandboxes.remove(unused.name)
    finally:
        unused.generation.release()


def _fill_volumes(
    tools: StartTools, sandbox: Sandbox, definition: Definition, generation: Generation
) -> None:
    for volume in definition.template.volumes:
        if volume.empty_dir is not None:
            tools.volumes.fill(sandbox.pod.tag, volume.name, generation.volume(volume.name))
