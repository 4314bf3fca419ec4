"""Bringing what Podman runs and what the cluster wants together again, whatever happened between.

Containers and archives of ours that nobody owns are removed; instances whose container ended are
looked at again. Nothing outside our own names is ever touched.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable

from tryitnow.agent.names import (
    POD_PREFIX,
    PREFIX,
    ContainerName,
    PodName,
    Role,
    demo_container,
    parse,
    parse_pod,
    waits_for,
    work_container,
)
from tryitnow.agent.node import Node
from tryitnow.agent.prepared import REPOSITORY, belongs_to
from tryitnow.agent.restore import archive_name
from tryitnow.agent.sandboxes import discard, dismantle
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

_ARCHIVE_FILE = re.compile(
    r"\.?(?P<stem>[a-z0-9.-]+_[a-z0-9.-]+_[0-9a-f]{10})\.(?:md|tar)(?:\.zst)?"
    r"(?:\.[0-9a-f]{16}\.partial)?"
)
"""Names that ``ArchiveStore`` gives; a person's own files in that directory match none of them."""


async def collect(node: Node, instances: WorkQueue, copies: WorkQueue) -> None:
    """Compare everything with everything, and remove what is nobody's.

    Raises:
        KubernetesError: the cluster does not answer: then nothing is removed.
        PodmanError: Podman does not answer.

    """
    # The order matters: what is listed by Podman first can only have been made for an object that
    # the later list of objects contains, unless that object is gone.
    containers = await node.podman.list_containers(PREFIX)
    half_made = await node.podman.half_made(PREFIX)
    pods = await node.podman.list_pods(POD_PREFIX)
    volumes = await asyncio.to_thread(node.volumes.tags)
    files = await asyncio.to_thread(node.archives.names)
    unpacked = await asyncio.to_thread(node.data.stems)
    tags = await node.podman.image_tags(REPOSITORY)
    wanted = await node.kubernetes.list_all(
        DemoInstance, field_selector=f"status.nodeName={node.name}"
    )
    held = await node.kubernetes.list_all(
        NodeCheckpoint, field_selector=f"spec.nodeName={node.name}"
    )
    node.instances.replace(wanted)
    node.copies.replace(held)
    waiting = node.pool.names() | node.slots.names() | node.preparing | node.filling
    for name in orphans(half_made, wanted.items, held.items):
        if str(name) not in waiting:
            logger.warning("removing container %s, which Podman never finished", name)
            await discard(node, name)
    for name in orphans([c.name for c in containers], wanted.items, held.items):
        if str(name) in waiting or await node.podman.inspect(str(name)) is None:
            continue  # needed, or renamed or removed meanwhile
        logger.warning("removing container %s: nobody owns it", name)
        await discard(node, name)
    for pod in headless(pods):
        if not await _is_being_opened_or_is_whole(node, pod):
            logger.warning("removing pod %s: its main container is gone", pod)
            await dismantle(node, pod)
    there = {pod.tag for pod in map(parse_pod, [pod.name for pod in pods]) if pod}
    for member in _members_of_no_pod(half_made, there):
        if not await _is_being_opened_or_is_whole(node, PodName(_tag_of_member(member))):
            logger.warning("removing container %s, which Podman never finished", member)
            await node.podman.remove(member)
    for tag in sorted(volumes - there):
        if not await _is_being_opened_or_is_whole(node, PodName(tag)):
            logger.warning("removing volumes %s: their pod is gone", tag)
            await in_thread(node.volumes.remove, tag)
    for file in orphaned_files(files, held.items):
        logger.warning("removing archive file %s: no NodeCheckpoint owns it", file)
        (node.archives.directory / file).unlink(missing_ok=True)
    for stem in sorted(unpacked - {archive_name(copy).stem for copy in held.items}):
        logger.warning("removing the unpacked archive %s: no NodeCheckpoint owns it", stem)
        await in_thread(node.data.remove, stem)
    # An image that is being made right now, or was just made, has no owner that says so yet.
    digests = _digests(held.items) | {made.archive_sha256 for made in node.prepared.values()}
    unneeded = {tag for tag in tags if not any(belongs_to(tag, sha256) for sha256 in digests)}
    for tag in sorted(unneeded) if not node.preparing else ():
        if await node.podman.remove_image(f"{REPOSITORY}:{tag}"):
            logger.info("removed the image %s:%s: no NodeCheckpoint needs it", REPOSITORY, tag)
    for key in ended(node.instances, containers):
        instances.add(key)
    for instance in wanted.items:
        if instance.is_deleting or instance.status.phase is DemoInstancePhase.STARTING:
            instances.add(instance.key)
    for copy in held.items:
        if copy.status.phase is not NodeCheckpointPhase.PREPARED or copy.is_deleting:
            copies.add(copy.key)


def _members_of_no_pod(names: list[str], tags: set[str]) -> list[str]:
    members = [name for name in names if name.startswith(POD_PREFIX)]
    return [name for name in members if _tag_of_member(name) not in tags]


def _tag_of_member(name: str) -> str:
    return name.removeprefix(POD_PREFIX).partition("_")[0]


async def _is_being_opened_or_is_whole(node: Node, pod: PodName) -> bool:
    """Whether somebody needs a pod by now that looked like nobody's when all were listed.

    Asked in this order: where nobody is opening it any more, its main container is there, or never
    will be.
    """
    if str(pod) in node.opening:
        return True
    found = await node.podman.inspect_pod(str(pod))
    return found is not None and not headless([found])


def _digests(held: list[NodeCheckpoint]) -> set[str]:
    """The archives that copies hold, or are being told to hold."""
    reported = {copy.status.archive.sha256 for copy in held if copy.status.archive is not None}
    ordered = {copy.spec.fetch.archive.sha256 for copy in held if copy.spec.fetch is not None}
    return reported | ordered


def headless(pods: list[PodState]) -> list[PodName]:
    """Return our pods without a main container, be it that somebody is making one."""
    return [
        name
        for pod in pods
        if (name := parse_pod(pod.name)) is not None
        and not any(parse(member) for member in pod.members)
    ]


def orphans(
    names: list[str], wanted: list[DemoInstance], held: list[NodeCheckpoint]
) -> list[ContainerName]:
    """Return those of these names, of main containers of ours, that no object accounts for."""
    owned: set[ContainerName] = {demo_container(instance) for instance in wanted}
    found = [(name, parse(name)) for name in names]
    for copy in held:
        if copy.status.phase is not NodeCheckpointPhase.PREPARED:
            owned |= {work_container(role, copy) for role in (Role.BUILD, Role.VERIFY)}
        # The pool itself decides which of its containers it needs. A slot is needed where the agent
        # knows it: one that it does not know was left by a Podman that broke off.
        owned |= {
            name for _, name in found if name is not None and waits_for(name, Role.WARM, copy)
        }
    return [name for _, name in found if name is not None and name not in owned]


def orphaned_files(files: set[str], held: list[NodeCheckpoint]) -> list[str]:
    """Return the archive files that no NodeCheckpoint accounts for."""
    owned = {archive_name(copy).stem for copy in held}
    matches = [(file, _ARCHIVE_FILE.fullmatch(file)) for file in sorted(files)]
    return [file for file, match in matches if match and match["stem"] not in owned]


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
