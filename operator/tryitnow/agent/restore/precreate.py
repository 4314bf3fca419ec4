"""Slots: containers made ahead of time, into which a prepared restore only reads the pages.

A slot has its name, port, network definition, layers and OCI configuration, and has never run: it
costs a port and a few KiB of disk, no memory. Making one takes 0.24 s and thawing into it 0.44 s,
where an import of the same prepared files takes 0.78 s, CRIU's 0.33 s included (measured side by
side, WordPress with MariaDB, podman 5.8).

This leans on what Podman does not promise: that a stopped container can be restored from images
which are put beside it. Where a version does not, the restore fails and the next rung of the
ladder takes over; the system tests ask for this one by name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.agent.names import (
    ContainerName,
    PodName,
    Role,
    slot_container,
)
from tryitnow.agent.node import Node
from tryitnow.agent.pool import Slot
from tryitnow.agent.ports import NoPortError
from tryitnow.agent.prepared import Prepared
from tryitnow.agent.sandbox import Sandbox, SandboxError
from tryitnow.agent.sandboxes import discard, discard_waiting, opened, waiting
from tryitnow.agent.sources import read_sources
from tryitnow.agent.startup import new_container
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.api.template import Container, Template
from tryitnow.background import all_together, in_thread
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError

logger = logging.getLogger(__name__)

WANTED = 4
"""Slots of a copy that wait: more demos than that at once keep the cores busy for longer than it
takes to make their slots."""

REST = timedelta(milliseconds=500)
"""How long the node is left to the demos that are being thawed, before slots are made again."""


@dataclass(frozen=True)
class Filled:
    """A copy that was thawed. Where its pod was sealed, it still is."""

    sandbox: Sandbox
    criu: timedelta
    """What CRIU took: of several containers, which are thawed at once, the longest."""


async def fill(
    node: Node,
    name: ContainerName,
    copy: NodeCheckpoint,
    prepared: Prepared,
    *,
    ready: Callable[[], None],
) -> Filled:
    """Thaw a copy into a slot, one that waits or one made now, under that name.

    ``ready`` is called when there is a slot. A container that fails is the caller's to discard.

    Raises:
        PodmanError: the thaw failed; a CRIUError carries the tail of CRIU's log.
        OSError: what is prepared cannot be put beside the container.
        NoPortError: the node's range of ports is used up.
        SandboxError: its pod cannot be made.

    """
    slot = node.slots.take(copy.key)
    if slot is None:
        slot = await _make(node, name, copy, prepared)
    else:
        node.filling.add(str(slot.name))
        try:
            await node.podman.rename(str(slot.name), str(name))
        except BaseException:
            # It may or may not have happened.
            await discard(node, slot.name)
            raise
        finally:
            node.filling.discard(str(slot.name))
        node.ports.hand_over(str(slot.name), str(name))
    ready()
    blueprint = copy.spec.blueprint
    called = slot.sandbox.containers(name, blueprint)
    took = await all_together(
        node.podman.restore(own, blueprint.freezing) for own in called.values()
    )
    return Filled(slot.sandbox, max(took))


async def reconcile_slots(node: Node, key: Key) -> timedelta | None:
    """Bring the number of a copy's waiting slots to what it should be."""
    copy, prepared = node.copies.get(key), node.prepared.get(key)
    if copy is None or not copy.is_prepared or prepared is None:
        await drop_slots(node, key)
        node.slots.adopted.discard(key)
        return None
    if key not in node.slots.adopted:
        await _remove_leftovers(node, copy)
        node.slots.adopted.add(key)
    while (missing := _wanted(node, copy) - len(node.slots.of(key))) > 0:
        if node.thaws.is_pressed:
            return REST
        if pause := node.backoff.remaining(_id(copy)):
            return pause
        logger.debug("%s: making a slot, %d are missing", key, missing)
        name = slot_container(copy)
        try:
            slot = await _make(node, name, copy, prepared)
        except PodmanUnreachableError:
            raise
        except (PodmanError, KubernetesError, SandboxError, OSError, NoPortError) as error:
            if not node.is_wanted(key):
                return None
            # Thaws make their own where none waits, or fall to the next rung and say so there.
            node.backoff.failed(_id(copy))
            logger.warning("%s: a slot cannot be made: %s", key, error)
            continue
        if node.prepared.get(key) is not prepared:
            await discard(node, slot.name)  # what is prepared was replaced meanwhile
            return timedelta()
        node.slots.add(key, slot)
    return None


async def drop_slots(node: Node, key: Key) -> None:
    """Remove all slots of a copy that wait."""
    await discard_waiting(node, node.slots, key)


def _wanted(node: Node, copy: NodeCheckpoint) -> int:
    """How many slots may wait: only on ports that no instance will need."""
    each = len(copy.spec.blueprint.template.ports)
    spare = node.ports.limit - node.settings.capacity * each
    mine = len(node.slots.of(copy.key))
    others = sum(len(slot.sandbox.ports) for slot in node.slots) - mine * each
    return max(0, min(WANTED, (spare - others) // each))


async def _make(node: Node, name: ContainerName, copy: NodeCheckpoint, prepared: Prepared) -> Slot:
    blueprint = copy.spec.blueprint
    template = blueprint.template
    sources = await read_sources(node.kubernetes, name.owner.namespace, template)
    sealed = Sandbox.is_sealed(blueprint)
    node.filling.add(str(name))
    try:
        async with opened(node, name, blueprint, sealed=sealed) as sandbox:
            if sandbox.pod is not None:
                await in_thread(_fill_volumes, node, sandbox.pod, template, prepared)
                await in_thread(node.volumes.write, sandbox.pod.tag, sources.files)

            async def one(container: Container, own: str) -> None:
                image = prepared.images[container.name]
                new = await new_container(node, blueprint, sandbox, container, image, sources)
                beside = await node.podman.create_stopped(own, new)
                await in_thread(prepared.put_beside, container.name, beside)

            called = sandbox.containers(name, blueprint)
            await all_together(
                one(container, called[container.name]) for container in template.members
            )
    finally:
        node.filling.discard(str(name))
    return Slot(name, sandbox)


def _fill_volumes(node: Node, pod: PodName, template: Template, prepared: Prepared) -> None:
    for volume in template.volumes:
        if volume.empty_dir is not None:
            node.volumes.copy_in(pod.tag, volume.name, prepared.frozen_volume(volume.name))


async def _remove_leftovers(node: Node, copy: NodeCheckpoint) -> None:
    """Remove what an agent before this one made: what it was made from may have changed since."""
    for name, _ in await waiting(node, Role.SLOT, copy):
        await discard(node, name)


def _id(copy: NodeCheckpoint) -> str:
    return f"{copy.metadata.uid}/slots"
