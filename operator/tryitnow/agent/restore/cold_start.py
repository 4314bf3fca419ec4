"""Starting an application from its images: the slow way that always works."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.agent.errors import NotReadyError
from tryitnow.agent.restore.images import pull_images
from tryitnow.agent.restore.ready import wait_started
from tryitnow.agent.restore.result import Running
from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.sandbox.names import ContainerName
from tryitnow.agent.sandbox.secrets import read_sources
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import StartedBy, Timings
from tryitnow.background import in_thread
from tryitnow.podman.client import PortMapping


@dataclass(frozen=True)
class ColdStarted:
    """An application that answers, started from its images."""

    images: dict[str, str]
    """Pinned references by container."""

    running: Running


async def cold_start(
    tools: StartTools,
    name: ContainerName,
    definition: Definition,
    pinned: Mapping[str, str],
    *,
    newest: bool = False,
    ports: Iterable[PortMapping] = (),
    host: str | None = None,
) -> ColdStarted:
    """Start an application in a new sandbox and wait until it answers.

    When it does not, nothing is left behind.

    Args:
        tools: The node's tools.
        name: Name of the sandbox.
        definition: What to start.
        pinned: Images of the revision by container; empty before its first build.
        newest: Whether a newer image of a name is asked for (``pull_images``).
        ports: Ports that the sandbox is to have; by default free ones.
        host: Name of the host that the containers see.

    Raises:
        SourceError: a Secret or a ConfigMap is missing.
        ImagePullError: an image cannot be had.
        NodeShortError, NodeLimitError: a limit of the node is reached.
        PodmanError: Podman could not start it.
        NotReadyError: it did not answer in ``readiness.timeout``; ends with what it last wrote.
        FirewallError, VolumeError, OSError: its sandbox cannot be made.

    """
    began = time.monotonic()
    namespace = name.owner.namespace
    sources = await read_sources(tools.kubernetes, tools.account, namespace, definition.template)
    images = await pull_images(tools, namespace, definition, sources, pinned, newest=newest)
    pulled = time.monotonic()
    async with tools.sandboxes.create(name, definition, ports=ports) as sandbox:
        await in_thread(tools.volumes.write, sandbox.pod.tag, sources.files)
        try:
            await tools.containers.start_cold(name, definition, sandbox, images, sources, host)
            started = time.monotonic()
            probe = await wait_started(tools, name, definition, sandbox)
        except NotReadyError as error:
            raise type(error)(sources.redacted.text(str(error))) from None
    timings = Timings(
        prepare=timedelta(seconds=pulled - began),
        cold_start=timedelta(seconds=started - pulled),
        probe=probe,
    )
    return ColdStarted(images, Running(sandbox, StartedBy.COLD_START, timings))
