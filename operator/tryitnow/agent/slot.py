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

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.agent.names import PREFIX, ContainerName, Role, parse, slot_container, waits_for
from tryitnow.agent.node import Node
from tryitnow.agent.pool import Slot
from tryitnow.agent.ports import NoPortError
from tryitnow.agent.prepared import Prepared
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.podman.client import PortMapping
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError

logger = logging.getLogger(__name__)

WANTED = 4
"""Slots of a copy that wait: more demos than that at once keep the cores busy for longer than it
takes to make their slots."""

REST = timedelta(milliseconds=500)
"""How long the node is left to the demos that are being thawed, before slots are made again."""


@dataclass(frozen=True)
class Filled:
    """A slot that runs."""

    ports: list[PortMapping]
    criu: timedelta


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
            await _remove(node, slot.name)
            raise
        finally:
            node.filling.discard(str(slot.name))
        node.ports.hand_over(str(slot.name), str(name))
    ready()
    criu = await node.podman.restore(str(name), copy.spec.blueprint.criu)
    return Filled(list(slot.ports), criu)


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
        except (PodmanError, OSError, NoPortError) as error:
            # Thaws make their own where none waits, or fall to the next rung and say so there.
            node.backoff.failed(_id(copy))
            logger.warning("%s: a slot cannot be made: %s", key, error)
            continue
        if node.prepared.get(key) is not prepared:
            await _remove(node, slot.name)  # what is prepared was replaced meanwhile
            return timedelta()
        node.slots.add(key, slot)
    return None


async def drop_slots(node: Node, key: Key) -> None:
    """Remove all slots of a copy that wait."""
    for slot in node.slots.of(key):
        if node.slots.withdraw(key, slot):
            await _remove(node, slot.name)


def _wanted(node: Node, copy: NodeCheckpoint) -> int:
    """How many slots may wait: only on ports that no instance will need."""
    each = len(copy.spec.blueprint.container.ports)
    spare = node.ports.limit - node.settings.capacity * each
    mine = len(node.slots.of(copy.key))
    others = sum(len(slot.ports) for slot in node.slots) - mine * each
    return max(0, min(WANTED, (spare - others) // each))


async def _make(node: Node, name: ContainerName, copy: NodeCheckpoint, prepared: Prepared) -> Slot:
    container = copy.spec.blueprint.container
    node.filling.add(str(name))
    try:
        ports = node.ports.take(str(name), [p.container_port for p in container.ports])
        try:
            beside = await node.podman.create_stopped(str(name), container, prepared.image, ports)
            await asyncio.to_thread(prepared.put_beside, beside)
        except BaseException:
            await _remove(node, name)
            raise
    finally:
        node.filling.discard(str(name))
    return Slot(name, tuple(ports))


async def _remove_leftovers(node: Node, copy: NodeCheckpoint) -> None:
    """Remove what an agent before this one made: what it was made from may have changed since."""
    for state in await node.podman.list_containers(PREFIX):
        name = parse(state.name)
        if name is not None and waits_for(name, Role.SLOT, copy):
            await _remove(node, name)


async def _remove(node: Node, name: ContainerName) -> None:
    await node.podman.remove(str(name))
    node.ports.release(str(name))


def _id(copy: NodeCheckpoint) -> str:
    return f"{copy.metadata.uid}/slots"
