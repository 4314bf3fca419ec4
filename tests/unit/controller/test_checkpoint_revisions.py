"""A CheckpointRevision is made for each definition, once, and says what its build produced."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.builders import (
    IMAGE,
    PINNED,
    REVISION,
    Clock,
    add_node,
    make_agent,
    make_archive,
    make_checkpoint,
    make_container,
    make_definition,
    make_demo,
    make_node_checkpoint,
    make_revision,
    make_template,
)
from tests.unit.fakes import FakeKubernetes
from tests.unit.kubernetes.test_watching import RecordingQueue
from tryitnow.api.checkpoint import Checkpoint, CheckpointStatus
from tryitnow.api.checkpointrevision import REVISION_FINALIZER, CheckpointRevision
from tryitnow.api.meta import (
    CHECKPOINT_LABEL,
    REVISION_LABEL,
    Condition,
    ConditionStatus,
    Resource,
    find_condition,
    now,
)
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpoint, NodeCheckpointPhase
from tryitnow.backoff import Backoff
from tryitnow.controller.checkpoint import reconcile_checkpoint
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.demoinstance import reconcile_instance
from tryitnow.controller.refusals import PAUSES, Refusals
from tryitnow.controller.resync import resync
from tryitnow.kubernetes.errors import ForbiddenError

SHOP = make_checkpoint().key
TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
QUOTA = ForbiddenError("403 Forbidden: exceeded quota: checkpointrevisions")
NEXT_IMAGE = "registry.example/shop:1.3"
NEXT = make_revision(definition=make_definition(image=NEXT_IMAGE))
Phase = NodeCheckpointPhase


class World:
    """Two nodes, and all that the API server tells of: its watches never miss anything."""

    def __init__(self, *resources: Resource) -> None:
        self.kubernetes = FakeKubernetes(*resources)
        self.clock = Clock()
        backoff = Backoff(PAUSES, clock=self.clock)
        self.cluster = Cluster(listed=True, refusals=Refusals(backoff))
        for name in ("node-a", "node-b"):
            add_node(self.cluster, make_agent(name, seen=now()))
            self.kubernetes.put(make_agent(name, seen=now()))
            node = self.cluster.nodes.get(make_agent(name).key)
            assert node is not None
            self.kubernetes.put(node)

    async def reconcile_once(self, times: int = 2) -> CheckpointStatus:
        """Have the controller look at what is there; twice, since writes come back as events."""
        await self.reconcile_without_checkpoint(times)
        return self.kubernetes.find(make_checkpoint()).status

    async def reconcile_without_checkpoint(self, times: int = 2) -> None:
        for _ in range(times):
            await resync(self.kubernetes, self.cluster, RecordingQueue(), RecordingQueue())
            await reconcile_checkpoint(self.kubernetes, self.cluster, SHOP)

    async def revisions(self) -> list[CheckpointRevision]:
        found = (await self.kubernetes.list_all(CheckpointRevision)).items
        return sorted(found, key=lambda revision: revision.spec.number)

    async def node_checkpoints(self) -> list[NodeCheckpoint]:
        return (await self.kubernetes.list_all(NodeCheckpoint)).items

    def change(self, checkpoint: Checkpoint) -> None:
        """Have somebody change the spec."""
        status = self.kubernetes.find(checkpoint).status
        self.kubernetes.put(checkpoint.model_copy(update={"status": status}))

    async def release_node_checkpoints(self) -> None:
        """Have the agents remove what is being deleted."""
        for node_checkpoint in await self.node_checkpoints():
            if node_checkpoint.is_deleting:
                await self.kubernetes.remove_finalizer(node_checkpoint)

    async def build(self, **status: object) -> NodeCheckpoint:
        """Have the node's agent end the build that is ordered."""
        [ordered] = [
            node_checkpoint
            for node_checkpoint in await self.node_checkpoints()
            if node_checkpoint.status.phase is Phase.PENDING
        ]
        spec = ordered.spec
        built = make_node_checkpoint(spec.node_name, revision=spec.revision, **status)  # type: ignore[arg-type]
        return self.kubernetes.put(built)


def built_of(revision: CheckpointRevision) -> Condition:
    found = find_condition(revision.status.conditions, "Built")
    assert found is not None
    return found


# -- made -----------------------------------------------------------------------------------------


async def test_a_new_checkpoint_has_a_revision_before_anything_is_ordered() -> None:
    world = World(make_checkpoint())
    await world.reconcile_once(times=1)
    [revision] = await world.revisions()
    assert revision.spec.identity == REVISION
    assert revision.spec.number == 1
    assert revision.definition == make_definition()
    assert revision.is_consistent
    assert revision.metadata.labels == {CHECKPOINT_LABEL: "shop", REVISION_LABEL: REVISION}
    assert revision.metadata.finalizers == (REVISION_FINALIZER,)
    assert revision.metadata.owner_references == (), "it outlives its Checkpoint"
    [order] = await world.node_checkpoints()
    assert order.revision_key == revision.key
    assert world.kubernetes.writes.index(revision.key) < world.kubernetes.writes.index(order.key)


async def test_it_is_made_once() -> None:
    world = World(make_checkpoint())
    await world.reconcile_once(times=4)
    assert len(await world.revisions()) == 1


async def test_one_whose_event_has_not_come_yet_is_taken() -> None:
    world = World(make_checkpoint(), make_revision(number=7))
    world.cluster.checkpoints.update(world.kubernetes.find(make_checkpoint()))
    await reconcile_checkpoint(world.kubernetes, world.cluster, SHOP)
    assert [revision.spec.number for revision in await world.revisions()] == [7]
    assert len(await world.node_checkpoints()) == 1


async def test_a_change_that_matters_makes_the_next_one() -> None:
    world = World(make_checkpoint())
    await world.reconcile_once()
    world.change(make_checkpoint(generation=2, image=NEXT_IMAGE))
    await world.reconcile_once()
    await world.release_node_checkpoints()
    status = await world.reconcile_once()
    assert [revision.spec.number for revision in await world.revisions()] == [2]
    assert status.candidate_revision == NEXT.spec.identity
    assert status.revision_number == 2


async def test_a_change_that_does_not_matter_makes_none() -> None:
    world = World(make_checkpoint())
    await world.reconcile_once()
    world.change(make_checkpoint(generation=2, copies=1))
    await world.reconcile_once()
    assert [revision.spec.number for revision in await world.revisions()] == [1]


async def test_a_number_is_not_used_again() -> None:
    world = World(make_checkpoint())
    await world.reconcile_once()
    for generation, image in enumerate((NEXT_IMAGE, IMAGE), start=2):
        world.change(make_checkpoint(generation=generation, image=image))
        await world.reconcile_once()
        await world.release_node_checkpoints()
        await world.reconcile_once()
    [revision] = await world.revisions()
    assert (revision.spec.identity, revision.spec.number) == (REVISION, 3)


async def test_a_checkpoint_that_was_made_anew_starts_from_one() -> None:
    old = make_revision(uid="of-another-checkpoint", number=5)
    demo = make_demo(node="node-a", revision=old.spec.identity)
    world = World(make_checkpoint(), old, demo)
    await world.reconcile_once()
    numbers = {r.spec.checkpoint_uid: r.spec.number for r in await world.revisions()}
    assert numbers == {"of-another-checkpoint": 5, make_checkpoint().metadata.uid: 1}


# -- refused --------------------------------------------------------------------------------------


async def test_a_revision_that_is_refused_is_reported_and_nothing_is_ordered() -> None:
    world = World(make_checkpoint(), make_demo())
    world.kubernetes.refusals["POST", "checkpointrevisions"] = QUOTA
    status = await world.reconcile_once(times=4)
    ready = find_condition(status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == (FALSE, "CannotCreateCheckpointRevision")
    assert "exceeded quota" in ready.message
    assert await world.node_checkpoints() == []
    assert world.kubernetes.reasons() == ["CannotCreateCheckpointRevision"]
    await reconcile_instance(world.kubernetes, world.cluster, make_demo().key)
    waits = find_condition(world.kubernetes.find(make_demo()).status.conditions, "Ready")
    assert waits is not None
    assert (waits.status, waits.reason) == (UNKNOWN, "CannotCreateCheckpointRevision")
    assert "exceeded quota" in waits.message
    world.kubernetes.refusals.clear()
    world.clock.seconds += 400
    await world.reconcile_once()
    assert len(await world.revisions()) == 1
    assert len(await world.node_checkpoints()) == 1


async def test_a_revision_that_somebody_else_made_is_not_run() -> None:
    ours = make_revision()
    spec = ours.spec.model_copy(update={"definition": make_definition(image="evil.example/x:1")})
    world = World(make_checkpoint(), ours.model_copy(update={"spec": spec}))
    status = await world.reconcile_once()
    ready = find_condition(status.conditions, "Ready")
    assert ready is not None
    assert ready.reason == "CannotCreateCheckpointRevision"
    assert f"CheckpointRevision {ours.key} does not hold the definition" in ready.message
    assert "Delete it" in ready.message
    assert await world.node_checkpoints() == []


async def test_one_of_its_name_that_cannot_be_read_is_reported_with_its_remedy() -> None:
    world = World(make_checkpoint())
    body = {**make_revision().to_api(), "spec": {"of": "a newer version"}}
    world.kubernetes.put_body(CheckpointRevision, body)
    status = await world.reconcile_once()
    ready = find_condition(status.conditions, "Ready")
    assert ready is not None
    assert ready.reason == "CannotCreateCheckpointRevision"
    assert "spec.checkpointUid: Field required" in ready.message
    assert "Bring the newer version back, or delete the CheckpointRevision" in ready.message


async def test_a_status_that_is_refused_is_reported_and_keeps_nobody_waiting() -> None:
    world = World(make_checkpoint())
    world.kubernetes.refusals["PATCH", "checkpointrevisions/status"] = QUOTA
    await world.reconcile_once()
    assert sorted(world.kubernetes.reasons()) == ["Building", "CannotWriteRevisionStatus"]
    assert len(await world.node_checkpoints()) == 1


# -- its status -----------------------------------------------------------------------------------


async def test_while_it_is_built_nobody_knows_whether_it_works() -> None:
    world = World(make_checkpoint())
    await world.reconcile_once()
    [revision] = await world.revisions()
    built = built_of(revision)
    assert (built.status, built.reason) == (UNKNOWN, "Building")
    assert revision.status.observed_generation == revision.metadata.generation
    assert revision.status.images == {}


async def test_once_it_is_built_it_says_by_whom_and_from_which_images() -> None:
    world = World(make_checkpoint())
    await world.reconcile_once()
    took = timedelta(seconds=7)
    node_checkpoint = await world.build(images={"shop": PINNED}, build_duration=took)
    written: list[str] = []
    world.kubernetes.on_write = lambda resource: written.append(resource.kind_name)
    status = await world.reconcile_once()
    assert written.index("CheckpointRevision") < written.index("Checkpoint"), "images before Ready"
    [revision] = await world.revisions()
    assert built_of(revision).status is TRUE
    assert revision.status.images == {"shop": PINNED}
    assert revision.status.archive == status.archive == node_checkpoint.status.archive
    assert revision.status.built_by == node_checkpoint.spec.node_name
    assert revision.status.build_duration == took
    writes = len(world.kubernetes.writes)
    await world.reconcile_once()
    assert len(world.kubernetes.writes) == writes, "nothing new writes nothing new"


async def test_a_build_that_failed_is_reported() -> None:
    world = World(make_checkpoint())
    await world.reconcile_once()
    await world.build(phase=Phase.FAILED, reason="CheckpointFailed", message="CRIU said no")
    await world.reconcile_once()
    [revision] = await world.revisions()
    built = built_of(revision)
    assert (built.status, built.reason) == (FALSE, "CheckpointFailed")
    assert "CRIU said no" in built.message


@pytest.mark.parametrize("is_builder_there", [True, False])
async def test_its_images_are_those_of_the_archive_that_serves(is_builder_there: bool) -> None:  # noqa: FBT001
    """Its NodeCheckpoints were lost, and the next build found another digest."""
    rebuilt = f"registry.example/shop@sha256:{'7' * 64}"
    archive = make_archive(b"of the second build", image=rebuilt)
    fetch = None if is_builder_there else Fetch(archive=archive)
    images = {"shop": rebuilt} if is_builder_there else {}
    world = World(
        make_checkpoint(serving=REVISION),
        make_revision(images={"shop": PINNED}, archive=make_archive()),
        make_node_checkpoint("node-a", archive=archive, fetch=fetch, images=images),
    )
    await world.reconcile_once()
    [revision] = await world.revisions()
    assert revision.status.archive == archive
    assert revision.status.images == {"shop": rebuilt}


async def test_they_are_kept_when_the_builder_is_gone() -> None:
    archive = make_archive(image="what an older version wrote")
    world = World(
        make_checkpoint(serving=REVISION, archive=archive),
        make_revision(images={"shop": PINNED}, archive=archive),
        make_node_checkpoint("node-b", fetch=Fetch(archive=archive)),
    )
    await world.reconcile_once()
    [revision] = await world.revisions()
    assert revision.status.images == {"shop": PINNED}


async def test_without_its_builder_the_archive_names_the_images() -> None:
    containers = (make_container("shop"), make_container("mail", ports=()))
    template = make_template().model_copy(update={"containers": containers})
    checkpoint = make_checkpoint(template=template)
    identity = checkpoint.spec.definition().identity(checkpoint.metadata.uid)
    archive = make_archive(images={"shop": "a@sha256:1", "mail": "b@sha256:2"})
    node_checkpoint = make_node_checkpoint(
        "node-b", revision=identity, fetch=Fetch(archive=archive)
    )
    world = World(checkpoint, node_checkpoint)
    await world.reconcile_once()
    [revision] = await world.revisions()
    assert revision.status.images == {"shop": "a@sha256:1", "mail": "b@sha256:2"}
    assert revision.status.built_by == ""


async def test_one_whose_node_checkpoints_are_lost_has_no_archive_and_keeps_its_images() -> None:
    world = World(
        make_checkpoint(serving=REVISION),
        make_revision(images={"shop": PINNED}, archive=make_archive()),
        make_node_checkpoint("node-a", phase=Phase.QUARANTINED),
    )
    await world.reconcile_once(times=1)
    [revision] = await world.revisions()
    built = built_of(revision)
    assert (built.status, built.reason) == (FALSE, "ArchiveLost")
    assert revision.status.archive is None
    assert revision.status.images == {"shop": PINNED}


# -- what demos are started from ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        (make_checkpoint(image=NEXT_IMAGE, serving=REVISION), REVISION),
        (make_checkpoint(image=NEXT_IMAGE), NEXT.spec.identity),
    ],
    ids=["the one that serves", "the wanted one, cold"],
)
async def test_a_demo_always_has_a_revision(checkpoint: Checkpoint, expected: str) -> None:
    world = World(checkpoint, make_revision(), make_node_checkpoint("node-a"), make_demo())
    await world.reconcile_once()
    await reconcile_instance(world.kubernetes, world.cluster, make_demo().key)
    bound = world.kubernetes.find(make_demo())
    assert bound.status.revision == expected
    assert bound.revision_key in {revision.key for revision in await world.revisions()}


async def test_a_demo_that_comes_before_the_revision_waits_without_an_event() -> None:
    world = World(make_checkpoint(), make_demo())
    await resync(world.kubernetes, world.cluster, RecordingQueue(), RecordingQueue())
    await reconcile_instance(world.kubernetes, world.cluster, make_demo().key)
    ready = find_condition(world.kubernetes.find(make_demo()).status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == (UNKNOWN, "RevisionPending")
    assert world.kubernetes.reasons() == []
    await world.reconcile_once()
    await reconcile_instance(world.kubernetes, world.cluster, make_demo().key)
    assert world.kubernetes.find(make_demo()).status.revision == REVISION
