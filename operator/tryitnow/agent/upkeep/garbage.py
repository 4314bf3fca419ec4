"""Bringing what Podman runs and what the cluster wants together again, whatever happened between.

Sandboxes and files of ours that nobody owns are removed: after two looks and a grace period, and
by way of the trash where a person may miss them. Nothing is removed while the node is not what it
was, nor what an object may own that cannot be read. Nothing outside our own names is ever touched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass

from tryitnow.agent.errors import SandboxError
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.leftovers import Conmon
from tryitnow.agent.sandbox.names import (
    POD_PREFIX,
    PREFIX,
    ContainerName,
    PodName,
    Role,
    parse,
    parse_pod,
)
from tryitnow.agent.storage.generations import REPOSITORY
from tryitnow.agent.upkeep.orphans import (
    Owners,
    members_of_no_pod,
    orphaned_files,
    orphans,
    unneeded_images,
    without_main_container,
)
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import in_thread
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.kubernetes.objects import Listing
from tryitnow.podman.client import ContainerState, PodState
from tryitnow.podman.errors import PodmanError

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
    demos, node_checkpoints = await _list_owners(node)
    await _examine(node, found, demos)
    for key in {demo.key for demo in demos.items} | demos.unreadable:
        node.queue_demo(key)
    node.checkpoints.turn_all()
    await _let_go(node, node_checkpoints)
    if (problem := node.guard.problem) is not None:
        logger.error("nothing is removed: %s", problem)
        # What is nobody's is found out anew when all is as it was.
        node.suspects.forget()
        return
    await _remove(node, found, Owners.of(demos, node_checkpoints))
    needed = {each.spec.revision for each in node_checkpoints.items}
    needed |= {demo.status.revision for demo in demos.items if demo.status.revision}
    await asyncio.to_thread(node.demo_tools.revisions.trim, needed)
    await _empty_trash(node, found)


async def _let_go(node: Node, node_checkpoints: Listing[NodeCheckpoint]) -> None:
    """Let go of NodeCheckpoints that are being deleted and do not fit our model.

    What they owned here is found as what nobody owns, as soon as they are gone.
    """
    for strange in node_checkpoints.unreadable_objects:
        if not strange.is_deleting:
            continue
        try:
            await node.kubernetes.remove_finalizer(strange)
        except KubernetesError as error:
            logger.error("%s cannot be let go: %s", strange.key, error)


async def _examine(node: Node, found: _Found, demos: Listing[DemoInstance]) -> None:
    """Have the guard compare what is here with what was here."""
    ready = sum(demo.was_ready and not demo.is_deleting for demo in demos.items)
    ready += sum(bool(strange.text_at("status", "readyAt")) for strange in demos.unreadable_objects)
    listed = len(found.containers)
    if ready and not listed:
        # The first demo of a node may have been started since.
        listed = len(await node.podman.list_containers(PREFIX))
    node.guard.seen_containers(listed=listed, ready_demos=ready)
    at_stake = bool(ready or found.containers or found.files or found.volumes)
    await node.guard.examine(anything_at_stake=at_stake)


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
        conmons=await asyncio.to_thread(node.demo_tools.start.conmons.find),
    )


async def _list_owners(node: Node) -> tuple[Listing[DemoInstance], Listing[NodeCheckpoint]]:
    demos = await node.kubernetes.list_all(
        DemoInstance, field_selector=f"status.nodeName={node.name}"
    )
    held = await node.kubernetes.list_all(
        NodeCheckpoint, field_selector=f"spec.nodeName={node.name}"
    )
    await node.guard.seen_version(min(demos.resource_version, held.resource_version))
    rewound = node.demos.is_of_another_history(demos)
    if rewound or node.node_checkpoints.is_of_another_history(held):
        node.guard.seen_rewind()
    node.demos.replace(demos)
    for key in node.node_checkpoints.replace(held):
        # Its deletion was missed, or nobody had it removed: the watch was broken then.
        node.checkpoints.gone_key(key)
    for resource in node.node_checkpoints:
        node.checkpoints.seen(resource)
    return demos, held


async def _remove(node: Node, found: _Found, owners: Owners) -> None:
    await _remove_sandboxes(node, found, owners)
    await _remove_pods(node, found)
    await _remove_files(node, found, owners)
    if owners.all_digests_known:
        await _remove_images(node, found)
    await _end_processes(node, found)
    _free_ports(node, found)


async def _try(what: str, removal: Awaitable[object]) -> None:
    """Remove one thing; one that cannot be removed must not keep all others here."""
    try:
        await removal
    except (PodmanError, SandboxError, OSError) as error:
        logger.error("%s cannot be removed: %s", what, error)


async def _remove_sandboxes(node: Node, found: _Found, owners: Owners) -> None:
    names = {c.name for c in found.containers} | set(found.storage_only)
    suspects = [*orphans(sorted(names), owners), *_lost_work(node, names)]
    proven = node.suspects.sandboxes.proven(map(str, suspects))
    for name in suspects:
        # Asked anew before each: the removal of the others took its time.
        if str(name) in proven and str(name) not in _needed(node):
            await _try(f"sandbox {name}", _remove_sandbox(node, name))


def _needed(node: Node) -> set[str]:
    return node.checkpoints.stock_names | node.sandboxes.names_in_work


def _lost_work(node: Node, names: set[str]) -> list[ContainerName]:
    """Return warm and pre-created sandboxes that their actor does not know.

    A Podman that was killed, or an agent, left them incomplete. One that is being restored, or was
    just handed to a demo, looks the same for a moment: so these are suspects like all others.
    """
    parsed = [name for name in map(parse, sorted(names)) if name is not None]
    return [
        name
        for name in parsed
        if name.role in {Role.WARM, Role.PRECREATED}
        and str(name) not in _needed(node)
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
    thrown_away = name.in_trash(int(time.time()))
    await node.sandboxes.rename(name, thrown_away)
    # A rename hands the ports over, and what does not run needs none.
    node.ports.release(str(thrown_away))


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
            await _try(text, in_thread(node.trash.delete, text))
        else:
            logger.info("removing sandbox %s from the trash for good", name)
            await _try(f"sandbox {name}", node.sandboxes.remove(name))


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
            await _try(f"pod {pod}", _remove_pod(node, pod, has_volumes=pod.tag in found.volumes))
    for member, pod in members:
        if not await _is_needed(node, pod):
            logger.warning("removing container %s, which Podman never finished", member)
            await _try(f"container {member}", node.podman.remove(member))
    for pod in volumes:
        if f"volumes {pod}" in proven and not await _is_needed(node, pod):
            logger.warning("moving the volumes of pod %s to the trash: their pod is gone", pod)
            await _try(f"the volumes of {pod}", _throw_away_volumes(node, pod))


async def _remove_pod(node: Node, pod: PodName, *, has_volumes: bool) -> None:
    """Remove a pod that nobody owns; its volumes are nobody's for as long, and go to the trash."""
    await node.podman.remove_pod(str(pod))
    if has_volumes:
        await _throw_away_volumes(node, pod)


async def _throw_away_volumes(node: Node, pod: PodName) -> None:
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


async def _remove_files(node: Node, found: _Found, owners: Owners) -> None:
    if not owners.all_revisions_known:
        return
    files = orphaned_files(found.files, owners.stems)
    unpacked = sorted(found.unpacked - owners.stems)
    proven = node.suspects.files.proven([*files, *(f"data/{stem}" for stem in unpacked)])
    for file in files:
        if file in proven:
            logger.warning("moving %s to the trash: no NodeCheckpoint owns it", file)
            await _try(file, in_thread(node.trash.put, node.archives.directory / file))
    for stem in unpacked:
        if f"data/{stem}" in proven:
            # It can be made again from the archive.
            logger.warning("removing the unpacked archive %s: no NodeCheckpoint owns it", stem)
            await _try(stem, in_thread(node.generations.remove_all, stem))


async def _remove_images(node: Node, found: _Found) -> None:
    digests = node.checkpoints.digests
    unneeded = unneeded_images(found.image_tags, digests)
    proven = node.suspects.images.proven(unneeded)
    for tag in unneeded:
        if tag in proven:
            logger.info("removing the image %s:%s: no archive needs it", REPOSITORY, tag)
            await _try(f"image {tag}", node.podman.remove_image(f"{REPOSITORY}:{tag}"))


async def _end_processes(node: Node, found: _Found) -> None:
    """End what a killed Podman left of starts: Podman says that these containers do not run."""
    running = {c.id for c in found.containers if c.alive}
    running |= {pod.infra_id for pod in found.pods if pod.infra_running}
    lost = {
        str(conmon): conmon
        for conmon in found.conmons
        if conmon.container_id not in running and not node.sandboxes.is_in_work(conmon.name)
    }
    # In two looks: between the making of a container and its start the same is seen.
    for text in node.suspects.processes.proven(lost):
        await in_thread(node.demo_tools.start.conmons.end, lost[text])


def _free_ports(node: Node, found: _Found) -> None:
    """Let go of ports of sandboxes that are gone: who removed them did not say so."""
    lost = node.ports.owners() - {c.name for c in found.containers} - set(found.storage_only)
    for owner in node.suspects.ports.proven(sorted(lost)):
        if owner not in _needed(node):
            logger.info("letting go of the ports of %s, which is gone", owner)
            node.ports.release(owner)
