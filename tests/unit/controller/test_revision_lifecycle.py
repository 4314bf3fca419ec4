"""A CheckpointRevision is there as long as anything needs it, and no longer."""

from __future__ import annotations

from typing import Any

import kopf
import pytest

from tests.unit.builders import (
    REVISION,
    make_checkpoint,
    make_definition,
    make_demo,
    make_node_checkpoint,
    make_revision,
)
from tests.unit.controller.test_checkpoint_revisions import NEXT, NEXT_IMAGE, SHOP, World
from tests.unit.kubernetes.test_watching import RecordingQueue
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import REVISION_FINALIZER, CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import CHECKPOINT_LABEL, NODE_FINALIZER, Resource
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.checkpoint import reconcile_checkpoint
from tryitnow.controller.demoinstance import reconcile_instance
from tryitnow.controller.handlers import (
    on_checkpointrevision,
    on_demoinstance,
    on_nodecheckpoint,
)
from tryitnow.controller.resync import resync
from tryitnow.kubernetes.errors import RefusedError

OLD = make_revision(finalizer=True)
READY = DemoInstancePhase.READY


def updated(*others: Resource) -> World:
    """A Checkpoint whose next revision serves: nothing of its own needs the old one."""
    checkpoint = make_checkpoint(image=NEXT_IMAGE, serving=NEXT.spec.identity)
    node_checkpoint = make_node_checkpoint("node-a", revision=NEXT.spec.identity)
    newest = make_revision(definition=make_definition(image=NEXT_IMAGE), number=2)
    return World(checkpoint, newest, node_checkpoint, OLD, *others)


async def test_an_old_one_goes_when_the_next_one_serves() -> None:
    world = updated(make_node_checkpoint("node-a"), make_demo(node="node-b", revision="e" * 32))
    await world.reconcile_once()
    assert world.kubernetes.has(OLD), "a node still holds it"
    [held] = [
        node_checkpoint
        for node_checkpoint in await world.node_checkpoints()
        if node_checkpoint.spec.revision == REVISION
    ]
    assert held.is_deleting
    await world.kubernetes.remove_finalizer(held)
    await world.reconcile_once()
    assert [revision.spec.number for revision in await world.revisions()] == [2]


@pytest.mark.parametrize(
    "demo",
    [
        make_demo(node="node-a", revision=REVISION, phase=READY),
        make_demo(node="node-a", revision=REVISION, phase=DemoInstancePhase.FAILED),
        make_demo(node="node-a", revision=REVISION, deleting=True, finalizer=True),
    ],
    ids=["running", "failed", "being deleted"],
)
async def test_it_stays_as_long_as_a_demo_of_it_is_there(demo: DemoInstance) -> None:
    world = updated(demo)
    await world.reconcile_once(times=4)
    assert not world.kubernetes.find(OLD).is_deleting
    await world.kubernetes.delete(world.kubernetes.find(demo))
    if demo.has_finalizer:
        await world.kubernetes.remove_finalizer(world.kubernetes.find(demo))
    await world.reconcile_once()
    assert not world.kubernetes.has(OLD)


@pytest.mark.parametrize("kind", [DemoInstance, NodeCheckpoint])
async def test_it_stays_for_what_cannot_be_read(kind: type[Resource]) -> None:
    """After a roll-back: nobody knows what else stands in such an object, but it is there."""
    world = updated()
    if kind is DemoInstance:
        strange = make_demo(node="node-a", revision=REVISION).to_api()
        strange["spec"]["ttl"] = "not a duration"
    else:
        strange = make_node_checkpoint("node-b").to_api()
        del strange["spec"]["nodeName"]
    world.kubernetes.put_body(kind, strange)
    await world.reconcile_once(times=4)
    assert world.kubernetes.has(OLD)


async def test_nothing_goes_while_the_checkpoint_cannot_be_read() -> None:
    world = updated()
    body = {**make_checkpoint().to_api(), "spec": {"of": "a newer version"}}
    world.kubernetes.put_body(Checkpoint, body)
    await resync(world.kubernetes, world.cluster, RecordingQueue(), RecordingQueue())
    await reconcile_checkpoint(world.kubernetes, world.cluster, SHOP)
    assert len(await world.revisions()) == 2


async def test_a_demo_that_is_being_bound_refers_to_it_already() -> None:
    world = updated()
    demo = make_demo()
    world.cluster.assume(demo, "node-a", REVISION)
    await world.reconcile_once(times=4)
    assert not world.kubernetes.find(OLD).is_deleting
    world.cluster.settle(demo)
    await world.reconcile_once()
    assert not world.kubernetes.has(OLD)


async def test_what_is_being_let_go_is_given_to_nobody() -> None:
    world = World(make_checkpoint(), make_revision(), make_demo())
    await resync(world.kubernetes, world.cluster, RecordingQueue(), RecordingQueue())
    world.cluster.releasing.add(make_revision().metadata.uid)
    await reconcile_instance(world.kubernetes, world.cluster, make_demo().key)
    assert world.kubernetes.find(make_demo()).status.revision is None
    await reconcile_checkpoint(world.kubernetes, world.cluster, SHOP)
    assert await world.node_checkpoints() == []


# -- the end of everything ------------------------------------------------------------------------


async def test_it_outlives_its_checkpoint_for_its_demos() -> None:
    demo = make_demo(node="node-a", revision=REVISION, phase=READY, finalizer=True)
    world = World(OLD, demo)
    await world.reconcile_without_checkpoint()
    assert not world.kubernetes.find(OLD).is_deleting
    await world.kubernetes.delete(world.kubernetes.find(demo))
    await world.reconcile_without_checkpoint()
    assert world.kubernetes.has(OLD), "its beforeDelete hooks stand in there"
    await world.kubernetes.remove_finalizer(world.kubernetes.find(demo))
    await world.reconcile_without_checkpoint()
    assert await world.revisions() == []


async def test_a_namespace_takes_it_away_after_the_demos() -> None:
    """The namespace's controller deletes everything at once, in no order."""
    demo = make_demo(node="node-a", revision=REVISION, phase=READY, finalizer=True)
    world = World(make_checkpoint(serving=REVISION), OLD, demo, make_node_checkpoint("node-a"))
    await world.reconcile_once()
    for resource in (OLD, make_checkpoint(), *await world.node_checkpoints(), demo):
        await world.kubernetes.delete(world.kubernetes.find(resource))
    await world.reconcile_without_checkpoint()
    assert world.kubernetes.find(OLD).is_deleting
    await world.release_node_checkpoints()
    await world.reconcile_without_checkpoint()
    assert world.kubernetes.has(OLD), "the hooks of the demo have not run yet"
    await world.kubernetes.remove_finalizer(world.kubernetes.find(demo))
    await world.reconcile_without_checkpoint()
    assert not world.kubernetes.has(OLD)


async def test_one_that_somebody_deletes_in_use_stays_and_serves_until_it_is_not() -> None:
    demo = make_demo(node="node-a", revision=REVISION, phase=READY)
    world = World(make_checkpoint(serving=REVISION), OLD, make_node_checkpoint("node-a"), demo)
    await world.kubernetes.delete(OLD)
    another = world.kubernetes.put(make_demo("another"))
    await world.reconcile_once(times=4)
    assert world.kubernetes.find(OLD).is_deleting
    await reconcile_instance(world.kubernetes, world.cluster, another.key)
    assert world.kubernetes.find(another).status.revision == REVISION


async def test_one_that_somebody_deletes_unused_is_made_anew_where_it_is_wanted() -> None:
    world = World(make_checkpoint(node_selector={"disk": "none"}), OLD)
    await world.reconcile_once(times=1)
    await world.kubernetes.delete(OLD)
    await world.reconcile_once(times=4)
    [revision] = await world.revisions()
    assert (revision.spec.identity, revision.spec.number) == (REVISION, 2)
    assert not revision.is_deleting


async def test_a_finalizer_of_somebody_else_is_left_alone() -> None:
    foreign = OLD.metadata.model_copy(update={"finalizers": (REVISION_FINALIZER, "them/backup")})
    world = updated()
    world.kubernetes.put(OLD.model_copy(update={"metadata": foreign}))
    await world.reconcile_once(times=4)
    left = world.kubernetes.find(OLD)
    assert left.is_deleting
    assert left.metadata.finalizers == ("them/backup",)


async def test_one_that_cannot_be_read_is_let_go_as_well() -> None:
    world = updated()
    body = {**OLD.to_api(), "spec": {"of": "a newer version"}}
    body["metadata"]["labels"] = {CHECKPOINT_LABEL: "shop"}
    world.kubernetes.put_body(CheckpointRevision, body)
    await world.reconcile_once()
    assert (CheckpointRevision.plural, OLD.key) not in world.kubernetes._objects


@pytest.mark.parametrize(
    ("method", "reason"),
    [("DELETE", "CannotDeleteCheckpointRevision"), ("PATCH", "CannotRemoveFinalizer")],
)
async def test_what_the_api_server_refuses_is_reported_once_and_tried_again(
    method: str, reason: str
) -> None:
    world = updated()
    refusal = RefusedError("a webhook keeps it")
    world.kubernetes.refusals[method, "checkpointrevisions"] = refusal
    await world.reconcile_once(times=4)
    assert world.kubernetes.reasons() == [reason]
    world.kubernetes.refusals.clear()
    world.clock.seconds += 400
    await world.reconcile_once()
    assert not world.kubernetes.has(OLD)
    assert world.cluster.refusals.next_try(OLD.metadata.uid) is None


# -- who is queued --------------------------------------------------------------------------------


def event(type_: Any, resource: Resource) -> kopf.RawEvent:
    return {"type": type_, "object": resource.to_api()}  # type: ignore[typeddict-item]


def test_the_last_demo_of_a_revision_has_its_checkpoint_checked() -> None:
    cluster = World().cluster
    cluster.revisions.update(OLD)
    demos = [make_demo(name, node="node-a", revision=REVISION) for name in ("one", "two")]
    checkpoints = RecordingQueue()
    for demo in demos:
        on_demoinstance(event("ADDED", demo), cluster, checkpoints, RecordingQueue())
    on_demoinstance(event("DELETED", demos[0]), cluster, checkpoints, RecordingQueue())
    assert checkpoints.asked == []
    on_demoinstance(event("DELETED", demos[1]), cluster, checkpoints, RecordingQueue())
    assert checkpoints.asked == [("add", SHOP)]


def test_a_revision_has_its_checkpoint_checked_and_who_waits_for_it() -> None:
    cluster = World().cluster
    waiting = cluster.instances.update(make_demo())
    checkpoints, instances = RecordingQueue(), RecordingQueue()
    on_checkpointrevision(event("ADDED", OLD), cluster, checkpoints, instances)
    assert (checkpoints.asked, instances.asked) == ([("add", SHOP)], [("add", waiting.key)])
    on_checkpointrevision(event("DELETED", OLD), cluster, checkpoints, instances)
    assert checkpoints.asked == [("add", SHOP)] * 2
    assert len(instances.asked) == 1


def test_the_last_node_of_a_revision_has_its_checkpoint_checked() -> None:
    cluster = World().cluster
    node_checkpoint = make_node_checkpoint("node-a", finalizer=False)
    assert NODE_FINALIZER not in node_checkpoint.metadata.finalizers
    checkpoints = RecordingQueue()
    cluster.node_checkpoints.update(node_checkpoint)
    on_nodecheckpoint(event("DELETED", node_checkpoint), cluster, checkpoints, RecordingQueue())
    assert checkpoints.asked == [("add", SHOP)]


async def test_a_resync_looks_at_revisions_whose_checkpoint_is_gone() -> None:
    world = World(OLD)
    checkpoints = RecordingQueue()
    await resync(world.kubernetes, world.cluster, checkpoints, RecordingQueue())
    assert checkpoints.asked == [("add", SHOP)]
