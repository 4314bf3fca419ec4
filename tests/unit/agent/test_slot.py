"""Slots: made ahead of time where ports are to spare, taken by one thaw each, never outdated."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.builders import make_archive, make_blueprint, make_copy
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.names import (
    ContainerName,
    Role,
    parse,
    slot_container,
    waits_for,
    warm_container,
)
from tryitnow.agent.node import Node
from tryitnow.agent.ports import PortRange
from tryitnow.agent.prepared import Prepared
from tryitnow.agent.restore import archive_name, thaw
from tryitnow.agent.slot import WANTED, drop_slots, reconcile_slots
from tryitnow.agent.unpack import CHECKPOINT, DEV_SHM
from tryitnow.api.checkpoint import Compression, CRIUOptions
from tryitnow.api.demoinstance import RestoredFrom
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.podman.client import NewContainer
from tryitnow.podman.errors import PodmanError

CONTENT = b"the frozen shop"


@pytest.fixture
def copy(node: Node, kubernetes: FakeKubernetes) -> NodeCheckpoint:
    """A prepared copy, on a node with more ports than its instances may need."""
    node.settings = replace(node.settings, max_instances=4)
    found = make_copy(
        blueprint=make_blueprint(criu=CRIUOptions(compression=Compression.NONE)),
        archive=make_archive(CONTENT),
    )
    kubernetes.put(found)
    node.copies.update(found)
    file = archive_name(found)
    node.archives.write(file, iter([CONTENT]))
    unfinished = node.data.begin(file.stem)
    (unfinished / "shop" / CHECKPOINT).mkdir(parents=True)
    (unfinished / "shop" / DEV_SHM).write_bytes(b"a tar")
    node.prepared[found.key] = node.data.finish(
        file.stem, make_archive(CONTENT).sha256, {"shop": "image"}
    )
    return found


def prepared_of(node: Node, copy: NodeCheckpoint) -> Prepared:
    return node.prepared[copy.key]


async def thawed_from(node: Node, copy: NodeCheckpoint, name: ContainerName) -> RestoredFrom:
    thawed, _ = await thaw(node, name, copy, make_archive(CONTENT))
    return thawed.restored_from


async def test_slots_are_made_with_what_is_prepared_beside_them(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    assert await reconcile_slots(node, copy.key) is None
    slots = node.slots.of(copy.key)
    assert len(slots) == WANTED
    assert podman.containers() == sorted(str(slot.name) for slot in slots)
    beside = podman.directory / str(slots[0].name)
    assert (beside / CHECKPOINT).resolve() == prepared_of(
        node, copy
    ).directory / "shop" / CHECKPOINT
    assert (beside / DEV_SHM).read_bytes() == b"a tar"


async def test_a_thaw_takes_the_slot_that_waits_longest_with_its_port(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    await reconcile_slots(node, copy.key)
    first, name = node.slots.of(copy.key)[0], warm_container(copy)
    podman.log.clear()
    assert await thawed_from(node, copy, name) is RestoredFrom.PREPARED
    assert f"rename {first.name}" in podman.log
    assert not any(line.startswith("create stopped") for line in podman.log)
    assert node.ports.of(str(name)) == [p.host_port for p in first.sandbox.ports]
    assert first not in node.slots.of(copy.key)


async def test_without_a_slot_a_thaw_makes_its_own(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    name = warm_container(copy)
    assert await thawed_from(node, copy, name) is RestoredFrom.PREPARED
    assert f"create stopped {name}" in podman.log


async def test_a_slot_that_is_gone_leaves_the_archive(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    await reconcile_slots(node, copy.key)
    first = node.slots.of(copy.key)[0]
    await podman.remove(str(first.name))
    name = warm_container(copy)
    assert await thawed_from(node, copy, name) is RestoredFrom.ARCHIVE
    assert node.ports.of(str(first.name)) == []


async def test_ports_that_instances_may_need_are_left_to_them(
    node: Node, copy: NodeCheckpoint
) -> None:
    node.settings = replace(node.settings, max_instances=18)
    node.ports = PortRange(node.settings.first_port, node.settings.last_port)
    await reconcile_slots(node, copy.key)
    assert len(node.slots.of(copy.key)) == 2, "20 ports, and 18 instances"


async def test_slots_wait_for_demos_that_are_being_thawed(node: Node, copy: NodeCheckpoint) -> None:
    async with node.thaws.turn(urgent=True):
        again = await reconcile_slots(node, copy.key)
    assert again is not None
    assert node.slots.of(copy.key) == ()


async def test_what_an_agent_before_this_one_made_is_made_anew(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    old = slot_container(copy)
    older = NewContainer(copy.spec.blueprint.main, "an older image")
    await podman.create_stopped(str(old), older)
    await reconcile_slots(node, copy.key)
    assert str(old) not in podman.containers()
    assert len(node.slots.of(copy.key)) == WANTED


async def test_a_slot_that_cannot_be_made_is_tried_again_after_a_pause(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    podman.failures["create stopped"] = PodmanError("no space left on device")
    again = await reconcile_slots(node, copy.key)
    assert again is not None
    assert again.total_seconds() > 1
    assert podman.containers() == []
    assert node.ports.taken == 0


async def test_slots_go_with_what_they_were_made_from(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    await reconcile_slots(node, copy.key)
    await drop_slots(node, copy.key)
    assert podman.containers() == []
    assert node.ports.taken == 0
    await reconcile_slots(node, copy.key)
    node.prepared.pop(copy.key)
    await reconcile_slots(node, copy.key)
    assert podman.containers() == []


def test_a_slot_is_told_by_its_name(copy: NodeCheckpoint) -> None:
    name = slot_container(copy)
    assert parse(str(name)) == name
    assert waits_for(name, Role.SLOT, copy)
    assert not waits_for(name, Role.WARM, copy)
