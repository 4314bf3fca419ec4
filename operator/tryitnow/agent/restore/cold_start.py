"""Starting a copy from its images, the slow way that always works."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.agent.inside import reached
from tryitnow.agent.names import ContainerName
from tryitnow.agent.node import Node
from tryitnow.agent.probe import NotReadyError, wait_ready
from tryitnow.agent.sandbox import Sandbox
from tryitnow.agent.sandboxes import discard, is_running, opened
from tryitnow.agent.sources import read_sources
from tryitnow.agent.startup import last_words, start_all
from tryitnow.api.checkpoint import Blueprint
from tryitnow.background import in_thread
from tryitnow.podman.errors import ImagePullError


@dataclass(frozen=True)
class Started:
    """A copy that answers, started from its images. No visitor gets into a pod yet."""

    images: dict[str, str]
    """Images by container, pinned."""

    sandbox: Sandbox
    prepare: timedelta
    cold_start: timedelta
    probe: timedelta


async def cold_start(node: Node, name: ContainerName, blueprint: Blueprint) -> Started:
    """Start a copy and wait until it answers; nothing is left behind when it does not.

    Raises:
        SourceError: a Secret or a ConfigMap is missing.
        ImagePullError: an image cannot be had.
        PodmanError: Podman could not start it.
        NotReadyError: it did not answer in ``readiness.timeout``; ends with what it last wrote.
        NoPortError: the node's range of ports is used up.
        GateError, VolumeError: its pod cannot be made.

    """
    began = time.monotonic()
    sources = await read_sources(node.kubernetes, name.owner.namespace, blueprint.template)
    images = await _pull(node, blueprint)
    pulled = time.monotonic()
    # One that an interrupted start left has the same name and is in the way.
    await discard(node, name)
    async with opened(node, name, blueprint) as sandbox:
        if sandbox.pod is not None:
            await in_thread(node.volumes.write, sandbox.pod.tag, sources.files)
        try:
            await start_all(node, name, blueprint, sandbox, images, sources)
            started = time.monotonic()
            probe = await _wait_ready(node, name, blueprint, sandbox)
        except NotReadyError as error:
            raise type(error)(sources.redacted.text(str(error))) from None
    return Started(
        images=images,
        sandbox=sandbox,
        prepare=timedelta(seconds=pulled - began),
        cold_start=timedelta(seconds=started - pulled),
        probe=probe,
    )


async def _pull(node: Node, blueprint: Blueprint) -> dict[str, str]:
    images: dict[str, str] = {}
    for field, container in blueprint.template.by_field():
        # One after the other: Podman pulls the layers of each in parallel already.
        try:
            images[container.name] = (await node.podman.pull(container.image)).pinned
        except ImagePullError as error:
            raise ImagePullError(f"{field}.image: {error}") from error
    return images


async def _wait_ready(
    node: Node, name: ContainerName, blueprint: Blueprint, sandbox: Sandbox
) -> timedelta:
    async with reached(node, blueprint, sandbox) as (session, target):
        try:
            return await wait_ready(
                session, target, blueprint.readiness.timeout, lambda: is_running(node, name)
            )
        except NotReadyError as error:
            container, own = await _silent_one(node, name, blueprint, sandbox)
            raise type(error)(f"{error}{await last_words(node, own, container)}") from error


async def _silent_one(
    node: Node, name: ContainerName, blueprint: Blueprint, sandbox: Sandbox
) -> tuple[str, str]:
    """The container that ended, else the main one; by the template's name and by Podman's."""
    for container, own in sandbox.containers(name, blueprint).items():
        state = await node.podman.inspect(own)
        if state is not None and not state.running:
            return container, own
    return blueprint.main.name, str(name)
