"""Bringing what Podman runs and what the cluster wants together again, whatever happened between.

Containers and archives of ours that nobody owns are removed; instances whose container ended are
looked at again. Nothing outside our own names is ever touched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from tryitnow.agent.names import (
    POD_PREFIX,
    PREFIX,
    PodName,
    Role,
    demo_container,
    parse,
    parse_pod,
)
from tryitnow.agent.node import Node
from tryitnow.agent.orphans import (
    headless,
    members_of_no_pod,
    orphaned_files,
    orphans,
    unneeded_images,
)
from tryitnow.agent.prepared import REPOSITORY
from tryitnow.agent.restore import archive_name
from tryitnow.agent.sandboxes import discard, dismantle
from tryitnow.agent.slot import drop_slots
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.background import in_thread
from tryitnow.podman.client import ContainerState, PodState
from tryitnow.workqueue import WorkQueue

logger = logging.getLogger(__name__)

EVERY_SECONDS = 30.0
"""Between two full looks, cluster included."""

PODMAN_EVERY_SECONDS = 3.0
"""Between two looks at Podman alone: how late we notice that a demo's container ended."""


@dataclass(frozen=True)
class _Found:
    """What lies on the node under our names."""

    port_owners: set[str]
    """Containers that hold ports, but for those that are being made."""
    containers: list[ContainerState]
    half_made: list[str]
    """Containers that a Podman which was killed never finished."""
    pods: list[PodState]
    volumes: set[str]
    """Tags of the pods that they belong to."""
    files: set[str]
    unpacked: set[str]
    """Stems of the archives that were unpacked."""
    image_tags: set[str]


@dataclass(frozen=True)
class _Owners:
    """What the cluster wants on the node."""

    instances: list[DemoInstance]
    copies: list[NodeCheckpoint]
    unreadable: frozenset[Key]
    """Objects whose wishes are not known."""


async def collect(node: Node, instances: WorkQueue, copies: WorkQueue) -> None:
    """Compare everything with everything, and remove what is nobody's.

    Raises:
        KubernetesError: the cluster does not answer: then nothing is removed.
        PodmanError: Podman does not answer.

    """
    # The order matters: what is found first can only have been made for an object that the later
    # list of objects contains, unless that object is gone.
    found = await _find(node)
    owners = await _list_owners(node)
    if owners.unreadable:
        # After a roll back, say. What they own cannot be told from what nobody owns.
        names = ", ".join(sorted(map(str, owners.unreadable)))
        logger.error("nothing is removed, as these objects cannot be read: %s", names)
    else:
        await _remove(node, found, owners)
    for key in _unsettled_instances(node, found, owners):
        instances.add(key)
    for copy in owners.copies:
        if copy.status.phase is not NodeCheckpointPhase.PREPARED or copy.is_deleting:
            copies.add(copy.key)


async def _remove(node: Node, found: _Found, owners: _Owners) -> None:
    await _remove_containers(node, found, owners)
    await _remove_pods(node, found)
    await _remove_archives(node, found, owners)
    await _remove_images(node, found, owners)
    _release_ports(node, found)


async def _find(node: Node) -> _Found:
    return _Found(
        port_owners=node.ports.owners() - node.in_work,
        containers=await node.podman.list_containers(PREFIX),
        half_made=await node.podman.half_made(PREFIX),
        pods=await node.podman.list_pods(POD_PREFIX),
        volumes=await asyncio.to_thread(node.volumes.tags),
        files=await asyncio.to_thread(node.archives.names),
        unpacked=await asyncio.to_thread(node.data.stems),
        image_tags=await node.podman.image_tags(REPOSITORY),
    )


async def _list_owners(node: Node) -> _Owners:
    wanted = await node.kubernetes.list_all(
        DemoInstance, field_selector=f"status.nodeName={node.name}"
    )
    held = await node.kubernetes.list_all(
        NodeCheckpoint, field_selector=f"spec.nodeName={node.name}"
    )
    node.instances.replace(wanted)
    for key in node.copies.replace(held):
        # Its deletion was missed, or nobody had it removed: the watch was broken then.
        node.prepared.pop(key, None)
        await drop_slots(node, key)
        node.pool.changed(key)
    return _Owners(wanted.items, held.items, wanted.unreadable | held.unreadable)


async def _remove_containers(node: Node, found: _Found, owners: _Owners) -> None:
    waiting = node.pool.names() | node.slots.names() | node.preparing | node.in_work
    for name in orphans(found.half_made, owners.instances, owners.copies):
        if str(name) not in waiting:
            logger.warning("removing container %s, which Podman never finished", name)
            await discard(node, name)
    names = [container.name for container in found.containers]
    for name in orphans(names, owners.instances, owners.copies):
        if str(name) in waiting or await node.podman.inspect(str(name)) is None:
            continue  # needed, or renamed or removed meanwhile
        logger.warning("removing container %s: nobody owns it", name)
        await discard(node, name)


async def _remove_pods(node: Node, found: _Found) -> None:
    """Remove pods without a main container, and what is left of pods that are gone."""
    for pod in headless(found.pods):
        if not await _is_in_work_or_whole(node, pod):
            logger.warning("removing pod %s: its main container is gone", pod)
            await dismantle(node, pod)
    there = {pod.tag for pod in map(parse_pod, [pod.name for pod in found.pods]) if pod}
    for member, pod in members_of_no_pod(found.half_made, there):
        if not await _is_in_work_or_whole(node, pod):
            logger.warning("removing container %s, which Podman never finished", member)
            await node.podman.remove(member)
    for tag in sorted(found.volumes - there):
        if not await _is_in_work_or_whole(node, PodName(tag)):
            logger.warning("removing volumes %s: their pod is gone", tag)
            await in_thread(node.volumes.remove, tag)


async def _is_in_work_or_whole(node: Node, pod: PodName) -> bool:
    """Whether somebody needs a pod by now that looked like nobody's when all were listed.

    Asked in this order: where nobody is making or removing it any more, its main container is
    there, or never will be.
    """
    if str(pod) in node.pods_in_work:
        return True
    found = await node.podman.inspect_pod(str(pod))
    return found is not None and not headless([found])


async def _remove_archives(node: Node, found: _Found, owners: _Owners) -> None:
    for file in orphaned_files(found.files, owners.copies):
        logger.warning("removing archive file %s: no NodeCheckpoint owns it", file)
        (node.archives.directory / file).unlink(missing_ok=True)
    for stem in sorted(found.unpacked - {archive_name(copy).stem for copy in owners.copies}):
        logger.warning("removing the unpacked archive %s: no NodeCheckpoint owns it", stem)
        await in_thread(node.data.remove, stem)


async def _remove_images(node: Node, found: _Found, owners: _Owners) -> None:
    if node.preparing:
        return  # what is being made right now has no owner that says so yet
    made = {prepared.archive_sha256 for prepared in node.prepared.values()}
    for tag in unneeded_images(found.image_tags, owners.copies, made):
        if await node.podman.remove_image(f"{REPOSITORY}:{tag}"):
            logger.info("removed the image %s:%s: no NodeCheckpoint needs it", REPOSITORY, tag)


def _release_ports(node: Node, found: _Found) -> None:
    """Give back the ports of what was to wait and could not be made while Podman was away.

    A demo's own are given back when it is started anew, or removed.
    """
    there = {c.name for c in found.containers} | set(found.half_made)
    waiting = node.pool.names() | node.slots.names() | node.in_work
    for owner in found.port_owners - there - waiting:
        name = parse(owner)
        if name is not None and name.role in {Role.WARM, Role.SLOT}:
            node.ports.release(owner)


def _unsettled_instances(node: Node, found: _Found, owners: _Owners) -> list[Key]:
    return ended(node.instances, found.containers) + [
        instance.key
        for instance in owners.instances
        if instance.is_deleting or instance.status.phase is DemoInstancePhase.STARTING
    ]


def ended(instances: Iterable[DemoInstance], containers: list[ContainerState]) -> list[Key]:
    """Return the ready instances of which a container ended; one that somebody paused has not."""
    broken = {c.pod for c in containers if c.pod and not c.alive}
    alive = {c.name for c in containers if c.alive and c.pod not in broken}
    return [
        instance.key
        for instance in instances
        if instance.status.phase is DemoInstancePhase.READY
        and str(demo_container(instance)) not in alive
    ]
