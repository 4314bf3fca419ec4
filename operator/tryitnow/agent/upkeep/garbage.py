"""Bringing what Podman runs and what the cluster wants together again, whatever happened between.

Sandboxes and files of ours that nobody owns are removed: after two looks and a grace period, and
by way of the trash where a person may miss them. Nothing is removed while the node is not what it
was, or while an object cannot be read. Nothing outside our own names is ever touched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.leftovers import Conmon, end_conmon, find_conmons
from tryitnow.agent.sandbox.names import (
    POD_PREFIX,
    PREFIX,
    ContainerName,
    PodName,
    Role,
    parse,
    parse_pod,
)
from tryitnow.agent.storage.archives import ArchiveName
from tryitnow.agent.storage.generations import REPOSITORY
from tryitnow.agent.upkeep.orphans import (
    members_of_no_pod,
    orphaned_files,
    orphans,
    unneeded_images,
    without_main_container,
)
from tryitnow.api.definition import Compression
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import in_thread
from tryitnow.podman.client import ContainerState, PodState

logger = logging.getLogger(__name__)

EVERY_SECONDS = 30.0
"""Between two full looks, cluster included."""


@dataclass(frozen=True)
class _Found:
    """What lies on the node under our names."""

    containers: list[ContainerState]
    storage_only: list[str]
    """Containers that a Podman which was killed never finished."""

    pods: list[PodState]
    volumes: set[str]
    """Tags of the pods that they belong to."""

    files: set[str]
    unpacked: set[str]
    """Stems of the archives that were unpacked."""

    image_tags: set[str]
    conmons: list[Conmon]


@dataclass(frozen=True)
class _Owners:
    """What the cluster wants on the node."""

    demos: list[DemoInstance]
    node_checkpoints: list[NodeCheckpoint]
    unreadable: frozenset[Key]
    """Objects whose wishes are not known."""


async def collect(node: Node) -> None:
    """Compare everything with everything, and remove what is nobody's.

    Raises:
        KubernetesError: the cluster does not answer: then nothing is removed.
        PodmanError, PodmanUnreachableError: Podman does not answer.
        OSError: the disk is broken.

    """
    # The order matters: what is found first can only have been made for an object that the later
    # list of objects contains, unless that object is gone.
    found = await _find(node)
    owners = await _list_owners(node)
    ready = [demo for demo in owners.demos if demo.was_ready and not demo.is_deleting]
    node.guard.seen_containers(listed=len(found.containers), ready_demos=len(ready))
    at_stake = bool(ready or found.containers or found.files or found.volumes)
    await node.guard.examine(anything_at_stake=at_stake)
    if (problem := node.guard.problem) is not None:
        logger.error("nothing is removed: %s", problem)
    elif owners.unreadable:
        # After a roll back, say. What they own cannot be told from what nobody owns.
        names = ", ".join(sorted(map(str, owners.unreadable)))
        logger.error("nothing is removed, as these objects cannot be read: %s", names)
    else:
        await _remove(node, found, owners)
        await _empty_trash(node, found)
    for demo in owners.demos:
        node.queue_demo(demo.key)
    node.checkpoints.turn_all()


async def _find(node: Node) -> _Found:
    podman = node.podman
    return _Found(
        containers=await podman.list_containers(PREFIX),
        storage_only=await podman.storage_only_containers(PREFIX),
        pods=await podman.list_pods(POD_PREFIX),
        volumes=await asyncio.to_thread(node.volumes.tags),
        files=await asyncio.to_thread(node.archives.names),
        unpacked=await asyncio.to_thread(node.generations.stems),
        image_tags=await podman.image_tags(REPOSITORY),
        conmons=await asyncio.to_thread(find_conmons),
    )


async def _list_owners(node: Node) -> _Owners:
    demos = await node.kubernetes.list_all(
        DemoInstance, field_selector=f"status.nodeName={node.name}"
    )
    held = await node.kubernetes.list_all(
        NodeCheckpoint, field_selector=f"spec.nodeName={node.name}"
    )
    await node.guard.seen_version(min(demos.resource_version, held.resource_version))
    node.demos.replace(demos)
    for key in node.node_checkpoints.replace(held):
        # Its deletion was missed, or nobody had it removed: the watch was broken then.
        node.checkpoints.gone_key(key)
    for resource in held.items:
        node.checkpoints.seen(resource)
    return _Owners(demos.items, held.items, demos.unreadable | held.unreadable)


async def _remove(node: Node, found: _Found, owners: _Owners) -> None:
    await _remove_sandboxes(node, found, owners)
    await _remove_pods(node, found)
    await _remove_files(node, found, owners)
    await _remove_images(node, found)
    await _end_processes(node, found)


async def _remove_sandboxes(node: Node, found: _Found, owners: _Owners) -> None:
    needed = node.checkpoints.stock_names | node.sandboxes.names_in_work
    names = {c.name for c in found.containers} | set(found.storage_only)
    suspects = [
        name
        for name in orphans(sorted(names), owners.demos, owners.node_checkpoints)
        if str(name) not in needed
    ]
    proven = node.suspects.sandboxes.proven(map(str, suspects))
    for name in suspects:
        if str(name) in proven and str(name) not in node.sandboxes.names_in_work:
            await _remove_sandbox(node, name)
    for name in _lost_work(node, names):
        logger.warning("removing sandbox %s: its work was interrupted", name)
        await node.sandboxes.remove(name)


def _lost_work(node: Node, names: set[str]) -> list[ContainerName]:
    """Return warm and pre-created sandboxes that their actor does not know.

    A Podman that was killed, or an agent, left them half made.
    """
    needed = node.checkpoints.stock_names | node.sandboxes.names_in_work
    parsed = [name for name in map(parse, sorted(names)) if name is not None]
    return [
        name
        for name in parsed
        if name.role in {Role.WARM, Role.PRECREATED}
        and str(name) not in needed
        and node.checkpoints.has_adopted(name)
    ]


async def _remove_sandbox(node: Node, name: ContainerName) -> None:
    if name.role is not Role.DEMO:
        logger.warning("removing sandbox %s: nobody owns it", name)
        await node.sandboxes.remove(name)
        return
    # A person's data: it is stopped, and kept for a while.
    logger.warning("moving sandbox %s to the trash: nobody owns it", name)
    found = await node.sandboxes.find(name)
    if found is None:
        await node.sandboxes.remove(name)
        return
    await node.podman.stop_pod(str(found.pod))
    await node.sandboxes.rename(name, name.in_trash(int(time.time())))
    node.ports.release(str(name))


async def _empty_trash(node: Node, found: _Found) -> None:
    """Remove for good what lay in the trash for long enough, or what a full disk needs."""
    sandboxes = [
        str(name) for c in found.containers if (name := parse(c.name)) and name.role is Role.TRASH
    ]
    files = await asyncio.to_thread(node.trash.entries)
    old = node.suspects.trash.proven([*sandboxes, *files])
    if node.disk.available_bytes < 0:
        old = {*sandboxes, *files}
    for text in old:
        name = parse(text)
        if name is None:
            logger.info("removing %s from the trash for good", text)
            await in_thread(node.trash.delete, text)
        else:
            logger.info("removing sandbox %s from the trash for good", name)
            await node.sandboxes.remove(name)


async def _remove_pods(node: Node, found: _Found) -> None:
    """Remove pods without a main container, and what is left of pods that are gone."""
    there = {pod.tag for pod in map(parse_pod, [pod.name for pod in found.pods]) if pod}
    mainless = without_main_container(found.pods)
    volumes = [PodName(tag) for tag in sorted(found.volumes - there)]
    members = members_of_no_pod(found.storage_only, there)
    candidates = [*map(str, mainless), *(f"volumes {pod}" for pod in volumes)]
    proven = node.suspects.pods.proven(candidates)
    for pod in mainless:
        if str(pod) in proven and not await _is_needed(node, pod):
            logger.warning("removing pod %s: its main container is gone", pod)
            await node.podman.remove_pod(str(pod))
    for member, pod in members:
        if not await _is_needed(node, pod):
            logger.warning("removing container %s, which Podman never finished", member)
            await node.podman.remove(member)
    for pod in volumes:
        if f"volumes {pod}" in proven and not await _is_needed(node, pod):
            logger.warning("moving the volumes of pod %s to the trash: their pod is gone", pod)
            await in_thread(node.trash.put, node.volumes.directory / pod.tag)


async def _is_needed(node: Node, pod: PodName) -> bool:
    """Whether somebody needs a pod by now that looked like nobody's when all were listed.

    Asked in this order: where nobody is making or removing it any more, its main container is
    there, or never will be.
    """
    if str(pod) in node.sandboxes.pods_in_work:
        return True
    found = await node.podman.inspect_pod(str(pod))
    return found is not None and not without_main_container([found])


async def _remove_files(node: Node, found: _Found, owners: _Owners) -> None:
    stems = {_stem(held) for held in owners.node_checkpoints}
    files = orphaned_files(found.files, stems)
    unpacked = sorted(found.unpacked - stems)
    proven = node.suspects.files.proven([*files, *(f"data/{stem}" for stem in unpacked)])
    for file in files:
        if file in proven:
            logger.warning("moving %s to the trash: no NodeCheckpoint owns it", file)
            await in_thread(node.trash.put, node.archives.directory / file)
    for stem in unpacked:
        if f"data/{stem}" in proven:
            # It can be made again from the archive.
            logger.warning("removing the unpacked archive %s: no NodeCheckpoint owns it", stem)
            await in_thread(node.generations.remove_all, stem)


def _stem(held: NodeCheckpoint) -> str:
    return ArchiveName(held.checkpoint_key, held.spec.revision, Compression.NONE).stem


async def _remove_images(node: Node, found: _Found) -> None:
    digests = node.checkpoints.digests
    unneeded = unneeded_images(found.image_tags, digests)
    proven = node.suspects.images.proven(unneeded)
    for tag in unneeded:
        if tag in proven and await node.podman.remove_image(f"{REPOSITORY}:{tag}"):
            logger.info("removed the image %s:%s: no archive needs it", REPOSITORY, tag)


async def _end_processes(node: Node, found: _Found) -> None:
    """End what a killed Podman left of starts: Podman says that these containers do not run."""
    running = {c.id for c in found.containers if c.alive}
    running |= {pod.infra_id for pod in found.pods if pod.infra_running}
    lost = {str(conmon): conmon for conmon in found.conmons if conmon.container_id not in running}
    # In two looks: between the making of a container and its start the same is seen.
    for text in node.suspects.processes.proven(lost):
        await in_thread(end_conmon, lost[text])
