"""Starting a container from its image, the slow way that always works."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.agent.names import ContainerName
from tryitnow.agent.node import Node
from tryitnow.agent.probe import NotReadyError, wait_ready
from tryitnow.agent.restore import discard, is_running, probe_target
from tryitnow.api.checkpoint import Blueprint
from tryitnow.podman.client import PortMapping
from tryitnow.podman.errors import PodmanError


@dataclass(frozen=True)
class Started:
    """A container that answers, started from its image."""

    image: str
    """The image, pinned."""

    ports: list[PortMapping]
    prepare: timedelta
    cold_start: timedelta
    probe: timedelta


async def cold_start(node: Node, name: ContainerName, blueprint: Blueprint) -> Started:
    """Start a container and wait until it answers; nothing is left behind when it does not.

    Raises:
        ImagePullError: the image cannot be had.
        PodmanError: Podman could not start it.
        NotReadyError: it did not answer in ``readiness.timeout``; ends with what it last wrote.
        NoPortError: the node's range of ports is used up.

    """
    began = time.monotonic()
    image = await node.podman.pull(blueprint.container.image)
    pulled = time.monotonic()
    # One that an interrupted start left has the same name and is in the way.
    await node.podman.remove(str(name))
    container_ports = [p.container_port for p in blueprint.container.ports]
    ports = node.ports.take(str(name), container_ports)
    try:
        await node.podman.create_and_start(str(name), blueprint.container, image.pinned, ports)
        started = time.monotonic()
        try:
            probe = await wait_ready(
                node.http,
                probe_target(node, blueprint, ports),
                blueprint.readiness.timeout,
                lambda: is_running(node, name),
            )
        except NotReadyError as error:
            raise type(error)(f"{error}{await _last_words(node, name)}") from error
    except BaseException:
        await discard(node, name)
        raise
    return Started(
        image=image.pinned,
        ports=ports,
        prepare=timedelta(seconds=pulled - began),
        cold_start=timedelta(seconds=started - pulled),
        probe=probe,
    )


async def _last_words(node: Node, name: ContainerName) -> str:
    try:
        lines = await node.podman.log_tail(str(name))
    except PodmanError:
        return ""  # the answer of the probe must do
    return f"\nThe container's last lines:\n{lines}" if lines else ""
