"""A Checkpoint's status, as kubectl, kstatus and people read it; and the plan carried out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.builders import (
    NOW,
    REVISION,
    Clock,
    add_node,
    make_agent,
    make_archive,
    make_checkpoint,
    make_condition,
    make_demo,
    make_node_checkpoint,
)
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.checkpoint import BuildFailure, Checkpoint, CheckpointPhase, CheckpointStatus
from tryitnow.api.demoinstance import DemoInstancePhase
from tryitnow.api.meta import Condition, ConditionStatus, find_condition, now
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpoint, NodeCheckpointPhase
from tryitnow.backoff import Backoff
from tryitnow.controller.build import Build, Failures
from tryitnow.controller.checkpoint import observe, reconcile_checkpoint
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.distribute import Distribution
from tryitnow.controller.plan import Plan
from tryitnow.controller.refusals import PAUSES, Refusals
from tryitnow.controller.serve import Serving
from tryitnow.controller.status import status_from

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN

FAILURE = BuildFailure(
    node_checkpoint_uid="uid-1",
    node_name="node-a",
    reason="CheckpointFailed",
    message="it said no",
    time=NOW,
)


BUILDING = Build(phase=CheckpointPhase.BUILDING, reason="Building")

FAILED = Build(
    phase=CheckpointPhase.FAILED,
    reason="CheckpointFailed",
    message="it said no",
    failures=Failures(attempts=3, faults=3, last=FAILURE),
)


def building(**changes: Any) -> Plan:
    return Plan(build=replace(BUILDING, **changes), candidate=REVISION)


def serving(
    *, ready: int = 2, desired: int = 2, build_duration: timedelta | None = None, **changes: Any
) -> Plan:
    served = Serving(REVISION, "2", make_archive(), build_duration, is_wanted=True)
    distribution = Distribution(nodes_ready=ready, nodes_desired=desired, **changes)
    return Plan(serving=served, distribution=distribution)


def stalled() -> Plan:
    return Plan(build=FAILED, candidate=REVISION)


def condition(status: CheckpointStatus, type_: str) -> Condition:
    found = find_condition(status.conditions, type_)
    assert found is not None, f"no {type_} in {[c.type for c in status.conditions]}"
    return found


def was(*conditions: Condition) -> Checkpoint:
    return make_checkpoint(status=CheckpointStatus(conditions=conditions))


# -- Ready ----------------------------------------------------------------------------------------


def test_from_the_first_moment_ready_is_unknown() -> None:
    status = status_from(make_checkpoint(generation=7), building())
    ready = condition(status, "Ready")
    assert (ready.status, ready.reason) == (UNKNOWN, "Building")
    assert ready.observed_generation == status.observed_generation == 7
    assert status.ready_since is None


def test_a_condition_always_has_a_reason() -> None:
    assert condition(status_from(make_checkpoint(), Plan()), "Ready").reason


def test_a_failed_build_is_not_ready() -> None:
    failed = building(failures=Failures(1, 1, FAILURE))
    assert condition(status_from(make_checkpoint(), failed), "Ready").status is FALSE


def test_once_not_ready_it_does_not_become_unknown_again() -> None:
    before = was(make_condition("Ready", holds=False))
    assert condition(status_from(before, building()), "Ready").status is FALSE


def test_with_all_node_checkpoints_it_is_ready_since_now() -> None:
    status = status_from(make_checkpoint(), serving())
    ready = condition(status, "Ready")
    assert ready.status is TRUE
    assert status.ready_since == ready.last_transition_time
    assert now() - ready.last_transition_time < timedelta(minutes=1)


def test_it_stays_ready_since_the_same_moment() -> None:
    before = was(make_condition("Ready"))
    assert status_from(before, serving()).ready_since == NOW


def test_the_first_node_checkpoints_are_waited_for() -> None:
    status = status_from(make_checkpoint(), serving(ready=1, is_fetching=True))
    assert condition(status, "Ready").status is FALSE


def test_later_node_checkpoints_are_not_waited_for() -> None:
    before = was(make_condition("Ready"))
    status = status_from(before, serving(ready=1, is_fetching=True))
    assert condition(status, "Ready").status is TRUE


def test_without_a_node_that_can_restore_it_is_not_ready() -> None:
    before = was(make_condition("Ready"))
    status = status_from(before, serving(ready=0))
    ready = condition(status, "Ready")
    assert (ready.status, ready.reason) == (FALSE, "NoNodeCanRestore")
    assert status.ready_since is None


def test_a_new_revision_under_way_leaves_the_old_one_ready() -> None:
    before = was(make_condition("Ready"))
    served = Serving(REVISION, "2", make_archive())
    result = replace(serving(), serving=served, build=BUILDING, candidate="0123456789")
    status = status_from(before, result)
    assert condition(status, "Ready").status is TRUE
    assert (status.current_revision, status.candidate_revision) == (REVISION, "0123456789")


# -- Stalled --------------------------------------------------------------------------------------


def test_what_is_given_up_is_stalled_and_says_why() -> None:
    status = status_from(make_checkpoint(), stalled())
    found = condition(status, "Stalled")
    assert (found.status, found.reason, found.message) == (TRUE, "CheckpointFailed", "it said no")
    assert condition(status, "Ready").status is FALSE
    assert status.phase is CheckpointPhase.FAILED


def test_it_stays_stalled_since_the_same_moment() -> None:
    before = was(make_condition("Stalled"))
    assert condition(status_from(before, stalled()), "Stalled").last_transition_time == NOW


def test_what_goes_on_is_not_stalled_any_more() -> None:
    before = was(make_condition("Stalled"))
    assert find_condition(status_from(before, building()).conditions, "Stalled") is None


def test_nothing_new_writes_nothing_new() -> None:
    for result in (building(), serving(), serving(is_fetching=True), stalled()):
        once = status_from(make_checkpoint(), result)
        assert status_from(make_checkpoint(status=once), result) == once


# -- Verified and Distributed ---------------------------------------------------------------------


def test_what_was_not_built_is_neither_verified_nor_distributed() -> None:
    result = replace(building(), distribution=Distribution(nodes_desired=2))
    status = status_from(make_checkpoint(), result)
    assert condition(status, "Verified").status is FALSE
    distributed = condition(status, "Distributed")
    assert distributed.status is FALSE
    assert distributed.message == "0 of 2 nodes have a Ready NodeCheckpoint"


def test_missing_node_checkpoints_are_named() -> None:
    status = status_from(make_checkpoint(), serving(ready=1, desired=3, missing=("b", "c")))
    assert condition(status, "Verified").status is TRUE
    distributed = condition(status, "Distributed")
    assert distributed.status is FALSE
    assert distributed.message == "1 of 3 nodes have a Ready NodeCheckpoint; missing: b, c"
    assert status.nodes == "1/3"


def test_a_node_checkpoint_on_a_node_that_cannot_restore_is_a_node_checkpoint_all_the_same() -> (
    None
):
    distributed = condition(status_from(make_checkpoint(), serving(ready=1)), "Distributed")
    assert distributed.status is TRUE
    assert distributed.message == "2 of 2 nodes have a Ready NodeCheckpoint"


def test_how_long_the_build_took_outlives_the_next_build() -> None:
    took = timedelta(seconds=9)
    built = status_from(make_checkpoint(), serving(build_duration=took))
    assert built.build_duration == took
    assert status_from(make_checkpoint(status=built), building()).build_duration == took


# -- carried out ----------------------------------------------------------------------------------


class World:
    """A cluster of three nodes with a Checkpoint in it."""

    def __init__(
        self, *node_checkpoints: NodeCheckpoint, checkpoint: Checkpoint | None = None
    ) -> None:
        self.kubernetes = FakeKubernetes()
        self.clock = Clock()
        backoff = Backoff(PAUSES, clock=self.clock)
        self.cluster = Cluster(listed=True, refusals=Refusals(backoff))
        for name in ("node-a", "node-b", "node-c"):
            add_node(self.cluster, self.kubernetes.put(make_agent(name, seen=now())))
        self.checkpoint = self.kubernetes.put(checkpoint or make_checkpoint())
        self.cluster.checkpoints.update(self.checkpoint)
        for node_checkpoint in node_checkpoints:
            self.cluster.node_checkpoints.update(self.kubernetes.put(node_checkpoint))

    async def reconcile(self) -> CheckpointStatus:
        await reconcile_checkpoint(self.kubernetes, self.cluster, self.checkpoint.key)
        return self.kubernetes.find(self.checkpoint).status

    async def node_checkpoints(self) -> list[NodeCheckpoint]:
        return (await self.kubernetes.list_all(NodeCheckpoint)).items


async def test_a_build_is_ordered_and_said() -> None:
    world = World()
    status = await world.reconcile()
    assert status.phase is CheckpointPhase.BUILDING
    [node_checkpoint] = await world.node_checkpoints()
    assert node_checkpoint.spec.fetch is None
    assert world.kubernetes.reasons() == ["Building"]


async def test_looking_again_orders_and_says_nothing_twice() -> None:
    world = World()
    await world.reconcile()
    await world.reconcile()
    writes = len(world.kubernetes.writes)
    await world.reconcile()
    assert len(world.kubernetes.writes) == writes
    assert len(await world.node_checkpoints()) == 1
    assert world.kubernetes.reasons() == ["Building"]


async def test_a_namesake_on_its_way_out_is_waited_for() -> None:
    world = World()
    await world.reconcile()
    [node_checkpoint] = await world.node_checkpoints()
    world.cluster.node_checkpoints.forget(node_checkpoint.key)
    await world.reconcile()  # what it would create is there, but not known yet
    assert len(await world.node_checkpoints()) == 1


async def test_node_checkpoints_are_ordered_from_the_builder() -> None:
    world = World(make_node_checkpoint("node-a", archive=make_archive()))
    await world.reconcile()
    ordered = {c.spec.node_name: c.spec.fetch for c in await world.node_checkpoints()}
    assert ordered.keys() == {"node-a", "node-b", "node-c"}
    for node in ("node-b", "node-c"):
        order = ordered[node]
        assert order is not None
        assert [source.node_name for source in order.sources] == ["node-a"]


async def test_a_changed_order_is_written_to_the_node_checkpoint_that_has_it() -> None:
    stale = make_node_checkpoint(
        "node-b",
        phase=NodeCheckpointPhase.FETCHING,
        fetch=Fetch(archive=make_archive()),
    )
    world = World(make_node_checkpoint("node-a"), stale)
    await world.reconcile()
    order = world.kubernetes.find(stale).spec.fetch
    assert order is not None
    assert [source.node_name for source in order.sources] == ["node-a"]


async def test_a_failed_build_is_written_down_before_it_is_cleared_away() -> None:
    failed = make_node_checkpoint(
        "node-a", phase=NodeCheckpointPhase.FAILED, reason="CheckpointFailed"
    )
    world = World(failed)
    # What the status says when the failed build is deleted is what a crash would leave behind.
    text: list[int] = []
    world.kubernetes.on_write = lambda written: (
        text.append(world.kubernetes.find(world.checkpoint).status.build_attempts)
        if written.key == failed.key
        else None
    )
    status = await world.reconcile()
    assert text == [1]
    assert status.last_failure is not None
    assert status.last_failure.node_checkpoint_uid == failed.metadata.uid
    assert world.kubernetes.find(failed).is_deleting


async def test_a_checkpoint_that_is_deleted_is_left_alone() -> None:
    world = World(checkpoint=make_checkpoint(deleting=True))
    await world.reconcile()
    assert world.kubernetes.writes == []


@pytest.mark.parametrize(
    ("phase", "counts"),
    [
        (DemoInstancePhase.PENDING, True),
        (DemoInstancePhase.STARTING, True),
        (DemoInstancePhase.READY, False),
        (DemoInstancePhase.FAILED, False),
    ],
)
def test_only_instances_that_are_still_starting_need_an_old_revision(
    phase: DemoInstancePhase, *, counts: bool
) -> None:
    world = World()
    world.cluster.instances.update(make_demo(node="node-a", revision="old", phase=phase))
    assert observe(world.cluster, world.checkpoint, NOW).starting == (
        frozenset({"old"}) if counts else frozenset()
    )


def test_instances_of_other_checkpoints_and_namespaces_do_not_count() -> None:
    world = World()
    starting = DemoInstancePhase.STARTING
    for other in (
        make_demo("a", checkpoint="blog", revision="old", phase=starting),
        make_demo("b", namespace="elsewhere", revision="old", phase=starting),
        make_demo("c", revision="old", phase=starting, deleting=True),
    ):
        world.cluster.instances.update(other)
    assert observe(world.cluster, world.checkpoint, NOW).starting == frozenset()
