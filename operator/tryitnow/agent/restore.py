"""Thawing a container from an archive on this node: ``podman container restore --import``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.agent.archive import ArchiveName
from tryitnow.agent.names import ContainerName
from tryitnow.agent.node import Node
from tryitnow.agent.probe import Target, wait_ready
from tryitnow.api.checkpoint import Archive, Blueprint
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.podman.client import PortMapping


@dataclass(frozen=True)
class Thawed:
    """A copy that answers."""

    ports: list[PortMapping]
    prepare: timedelta
    restore: timedelta
    probe: timedelta


def archive_name(copy: NodeCheckpoint) -> ArchiveName:
    """Return the name of the file in which this copy lies."""
    owner = Key(copy.metadata.namespace, copy.spec.checkpoint)
    return ArchiveName(owner, copy.spec.revision, copy.spec.blueprint.criu.compression)


def probe_target(node: Node, blueprint: Blueprint, ports: list[PortMapping]) -> Target:
    """Return where readiness is asked: at the published port, as any user would."""
    port = next(p.host_port for p in ports if p.container_port == blueprint.probe_port)
    return Target(node.settings.node_address, port, blueprint.readiness)


async def is_running(node: Node, name: ContainerName) -> bool:
    """Whether a container is there and runs."""
    state = await node.podman.inspect(str(name))
    return state is not None and state.running


async def thaw(
    node: Node,
    name: ContainerName,
    archive_file: ArchiveName,
    archive: Archive,
    blueprint: Blueprint,
) -> Thawed:
    """Thaw a copy and wait until it answers; nothing is left behind when it does not.

    Raises:
        ArchiveError: the archive is missing or damaged; nothing was thawed.
        ImagePullError: the image below it cannot be had.
        PodmanError: the thaw failed; a CRIUError carries the tail of CRIU's log.
        NotReadyError: it was thawed and did not answer in ``restoreTimeout``.
        NoPortError: the node's range of ports is used up.

    """
    container_ports = [p.container_port for p in blueprint.container.ports]
    ports = node.ports.take(str(name), container_ports)
    try:
        async with node.thaws:
            began = time.monotonic()
            await node.podman.ensure_image(archive.image)
            prepared = time.monotonic()
            await node.podman.restore_import(
                str(name), blueprint.criu, ports, lambda: node.archives.read(archive_file, archive)
            )
            thawed = time.monotonic()
        probe = await wait_ready(
            node.http,
            probe_target(node, blueprint, ports),
            blueprint.readiness.restore_timeout,
            lambda: is_running(node, name),
        )
    except BaseException:
        await discard(node, name)
        raise
    return Thawed(
        ports=ports,
        prepare=timedelta(seconds=prepared - began),
        restore=timedelta(seconds=thawed - prepared),
        probe=probe,
    )


async def discard(node: Node, name: ContainerName) -> None:
    """Remove a container and let go of its ports; fine when there is none.

    Raises:
        PodmanError: Podman would not remove it; the ports stay taken until somebody does.

    """
    await node.podman.remove(str(name))
    node.ports.release(str(name))
