"""The plan for a Checkpoint: where it is built and fetched, what is deleted, and its status."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

import pytest

from tests.unit.builders import (
    NOW,
    REVISION,
    UID_OF_SHOP,
    make_agent,
    make_archive,
    make_checkpoint,
    make_definition,
    make_node,
    make_node_checkpoint,
    make_revision,
    make_silent_agent,
    make_spec,
    make_state,
)
from tryitnow.api.archive import Archive, Versions
from tryitnow.api.checkpoint import Checkpoint, CheckpointPhase, Pool
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.meta import CHECKPOINT_LABEL, NODE_FINALIZER, REVISION_LABEL
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpoint, NodeCheckpointPhase
from tryitnow.controller.observed import Observed, PlannedEvent
from tryitnow.controller.plan import Plan, creation, plan
from tryitnow.controller.refusals import Attempt, Refusal
from tryitnow.controller.retry import MAX_BUILDS, PAUSES, pause
from tryitnow.controller.status import status_from

Phase = NodeCheckpointPhase

AGENTS = (make_agent("node-a"), make_agent("node-b"), make_agent("node-c"))

OLD_DEFINITION = make_definition(image="registry.example/shop:1.1")
OLD = OLD_DEFINITION.identity(UID_OF_SHOP)
"""The revision of the image before ``REVISION``."""

FETCH = Fetch(archive=make_archive())

AFTER_PAUSE = NOW + 2 * PAUSES.first
"""When the pause after a first failure is over, whatever its jitter."""


def planned(
    checkpoint: Checkpoint | None = None,
    *node_checkpoints: NodeCheckpoint,
    agents: Iterable[NodeAgent] | None = None,
    selected: Iterable[str] | None = None,
    nodes: Iterable[str] | None = None,
    architectures: Mapping[str, str] | None = None,
    cordoned: Collection[str] = (),
    starting: Iterable[str] = (),
    refused: Mapping[Attempt, Refusal] | None = None,
    revisions: Iterable[CheckpointRevision] | None = None,
    at: datetime = NOW,
) -> Plan:
    """Plan for a Checkpoint on three healthy, selected nodes, or on those that are told."""
    if agents is None:
        agents = [make_agent(name, seen=at) for name in ("node-a", "node-b", "node-c")]
    states = {
        agent.metadata.name: make_state(
            agent,
            at=at,
            node=make_node(agent.metadata.name, cordoned=agent.metadata.name in cordoned),
        )
        for agent in agents
    }
    checkpoint = checkpoint or make_checkpoint()
    if revisions is None:
        wanted = make_revision(definition=checkpoint.spec.definition(), number=2)
        revisions = make_revision(definition=OLD_DEFINITION), wanted
    chosen = set(states) if selected is None else set(selected)
    return plan(
        Observed(
            checkpoint=checkpoint,
            revisions={revision.spec.identity: revision for revision in revisions},
            node_checkpoints=list(node_checkpoints),
            selected=[state for name, state in states.items() if name in chosen],
            nodes=states,
            architectures={
                name: (architectures or {}).get(name)
                for name in (states if nodes is None else nodes)
            },
            starting=frozenset(starting),
            at=at,
            refused=refused or {},
        )
    )


def after(checkpoint: Checkpoint, result: Plan) -> Checkpoint:
    """Return the Checkpoint with the status that the plan gives it."""
    return checkpoint.model_copy(update={"status": status_from(checkpoint, result)})


def nodes_of(node_checkpoints: Iterable[NodeCheckpoint]) -> list[str]:
    return sorted(node_checkpoint.spec.node_name for node_checkpoint in node_checkpoints)


def failed_build(
    node: str = "node-a", reason: str = "CheckpointFailed", uid: str = "uid-1"
) -> NodeCheckpoint:
    return make_node_checkpoint(
        node, phase=Phase.FAILED, reason=reason, message="it said no", uid=uid
    )


# -- the first build ------------------------------------------------------------------------------


def test_a_new_checkpoint_is_built_on_one_node() -> None:
    result = planned()
    [order] = result.create
    assert order.fetch is None
    assert order.revision == REVISION
    assert result.phase is CheckpointPhase.BUILDING
    assert result.candidate == REVISION
    assert result.serving.revision is None
    assert result.events == (), "it is said once it is ordered"


def test_a_build_that_is_ordered_is_not_ordered_again() -> None:
    result = planned(None, make_node_checkpoint(phase=Phase.PENDING))
    assert not result.create
    assert not result.delete
    assert result.phase is CheckpointPhase.BUILDING
    assert result.message == "on node-a: waiting for its agent"


def test_what_the_builder_is_doing_is_shown() -> None:
    building = make_node_checkpoint(phase=Phase.BUILDING, progress="warming up with 3 paths")
    assert planned(None, building).message == "on node-a: warming up with 3 paths"
    verifying = planned(None, make_node_checkpoint(phase=Phase.VERIFYING, progress="test restore"))
    assert verifying.phase is CheckpointPhase.VERIFYING


def test_a_builders_silence_is_looked_for_more_often() -> None:
    assert planned(None, make_node_checkpoint(phase=Phase.BUILDING)).requeue_after <= timedelta(
        seconds=5
    )


def test_without_a_selected_node_it_says_where_to_check() -> None:
    result = planned(agents=())
    assert result.create == ()
    assert (result.phase, result.reason) == (CheckpointPhase.PENDING, "NoNode")
    assert "nodeSelector" in result.message


def test_without_criu_anywhere_it_says_what_each_node_lacks() -> None:
    agents = [
        make_agent("node-a", criu=False),
        make_silent_agent("node-b"),
        make_agent("node-c", ready=False),
    ]
    result = planned(agents=agents)
    assert result.create == ()
    assert (result.phase, result.reason) == (CheckpointPhase.PENDING, "CRIUNotAvailable")
    assert "node-a: no criu" in result.message
    assert "node-b: is silent" in result.message
    assert "node-c: is not ready: Podman is away" in result.message


def test_a_node_that_cannot_checkpoint_does_not_build() -> None:
    [order] = planned(agents=[make_agent("node-a", criu=False), make_agent("node-b")]).create
    assert order.node_name == "node-b"


def test_only_selected_nodes_build() -> None:
    [order] = planned(selected=["node-c"]).create
    assert order.node_name == "node-c"


def test_a_cordoned_or_ending_node_does_not_build() -> None:
    agents = [make_agent("node-a"), make_agent("node-b", stopping=True), make_agent("node-c")]
    result = planned(agents=agents, cordoned=["node-a"])
    assert [order.node_name for order in result.create] == ["node-c"]
    nobody = planned(agents=agents[:2], cordoned=["node-a"])
    assert nobody.reason == "NoNode"
    assert "node-a: is cordoned; node-b: has an agent that is stopping" in nobody.message


def test_what_is_created_belongs_to_the_checkpoint_and_to_its_node() -> None:
    checkpoint = make_checkpoint()
    [order] = planned(checkpoint).create
    body = creation(checkpoint, order)
    node_checkpoint = NodeCheckpoint.model_validate(body)
    assert node_checkpoint.metadata.name == f"shop.{REVISION}.{order.node_name}"
    assert node_checkpoint.metadata.namespace == "default"
    assert node_checkpoint.metadata.finalizers == (NODE_FINALIZER,)
    assert node_checkpoint.metadata.labels == {CHECKPOINT_LABEL: "shop", REVISION_LABEL: REVISION}
    [owner] = node_checkpoint.metadata.owner_references
    assert (owner.kind, owner.uid, owner.controller) == ("Checkpoint", "uid-of-shop", True)
    assert node_checkpoint.spec == order


# -- builds that fail -----------------------------------------------------------------------------


def test_a_failed_build_is_counted_said_and_cleared_away() -> None:
    failed = failed_build()
    result = planned(None, failed)
    assert result.delete == (failed,)
    assert result.create == ()
    assert result.build.failures.attempts == 1
    assert result.build.failures.last is not None
    assert result.build.failures.last.reason == "CheckpointFailed"
    assert result.build.failures.retry_at == NOW + pause(1, failed.metadata.uid)
    assert PlannedEvent("CheckpointFailed", "on node-a: it said no", True) in result.events
    assert result.message.startswith("it said no")
    assert not result.build.is_stalled


def test_while_it_is_tried_again_the_last_failure_stays_in_sight() -> None:
    checkpoint = make_checkpoint()
    checkpoint = after(checkpoint, planned(checkpoint, failed_build()))
    trying = make_node_checkpoint(
        "node-b", phase=Phase.BUILDING, progress="checkpointing", uid="the-second"
    )
    message = planned(checkpoint, trying).message
    assert message == "on node-b: checkpointing\nThe last try, on node-a, failed: it said no"


def test_a_failure_is_counted_once_however_often_it_is_seen() -> None:
    checkpoint = make_checkpoint()
    checkpoint = after(checkpoint, planned(checkpoint, failed_build()))
    again = planned(checkpoint, failed_build())
    assert again.build.failures.attempts == 1
    assert again.events == ()
    assert again.delete, "or it would never be built again"


def test_the_next_build_waits_until_the_last_is_cleared_away_and_its_pause_over() -> None:
    checkpoint = make_checkpoint()
    checkpoint = after(checkpoint, planned(checkpoint, failed_build()))
    later = NOW + pause(1, "uid-1")
    going = make_node_checkpoint(phase=Phase.FAILED, uid="uid-1", deleting=True)
    assert planned(checkpoint, going, at=later).create == ()
    waiting = planned(checkpoint, at=later - timedelta(seconds=2))
    assert waiting.create == ()
    assert waiting.requeue_after == timedelta(seconds=2)
    assert "it said no\nNext try in 2 s. (node node-a)" in waiting.message
    assert len(planned(checkpoint, at=later).create) == 1


def test_the_next_build_is_on_another_node() -> None:
    checkpoint = make_checkpoint()
    for node in ("node-a", "node-b", "node-c"):
        failed = after(checkpoint, planned(checkpoint, failed_build(node)))
        [order] = planned(failed, at=AFTER_PAUSE).create
        assert order.node_name != node


def test_with_one_node_the_next_build_is_there_again() -> None:
    agents = [make_agent("node-a")]
    checkpoint = make_checkpoint()
    checkpoint = after(checkpoint, planned(checkpoint, failed_build(), agents=agents))
    [order] = planned(checkpoint, agents=agents, at=AFTER_PAUSE).create
    assert order.node_name == "node-a"


def fail_until_final(checkpoint: Checkpoint, reason: str, times: int) -> tuple[Checkpoint, Plan]:
    at = NOW
    for i in range(times):
        result = planned(checkpoint, failed_build(reason=reason, uid=f"uid-{i}"), at=at)
        checkpoint = after(checkpoint, result)
        at = result.build.failures.retry_at or at
    return checkpoint, planned(checkpoint, at=NOW + timedelta(days=1))


def test_an_application_that_fails_each_time_is_given_up_until_it_is_changed() -> None:
    checkpoint, result = fail_until_final(make_checkpoint(), "CheckpointFailed", MAX_BUILDS)
    assert result.create == ()
    assert result.build.is_stalled
    assert result.phase is CheckpointPhase.FAILED
    assert "change the spec" in result.message
    changed = make_checkpoint(generation=2, image="registry.example/shop:1.3")
    anew = planned(changed.model_copy(update={"status": checkpoint.status}))
    assert len(anew.create) == 1
    assert anew.build.failures.attempts == 0
    assert anew.build.failures.last is None
    assert not anew.build.is_stalled


@pytest.mark.parametrize("reason", ["ImagePullFailed", "NodeLost", "DiskFull", "NoPort"])
def test_what_the_world_may_fix_is_tried_for_ever(reason: str) -> None:
    _, result = fail_until_final(make_checkpoint(), reason, 2 * MAX_BUILDS)
    assert not result.build.is_stalled
    assert len(result.create) == 1


def test_limits_of_nodes_do_not_count_against_the_application() -> None:
    """Five full disks, and then one real failure: that is the first of three."""
    checkpoint, _ = fail_until_final(make_checkpoint(), "DiskFull", 5)
    result = planned(checkpoint, failed_build(reason="CheckpointFailed", uid="real"))
    failures = result.build.failures
    assert (failures.attempts, failures.faults) == (6, 1)
    assert not result.build.is_stalled
    assert failures.retry_at is not None
    assert status_from(checkpoint, result).build_faults == 1


def test_real_failures_count_whatever_limits_come_between() -> None:
    checkpoint, at = make_checkpoint(), NOW
    for i, reason in enumerate(("CheckpointFailed", "MemoryExhausted", "CheckpointFailed")):
        result = planned(checkpoint, failed_build(reason=reason, uid=f"uid-{i}"), at=at)
        assert not result.build.is_stalled
        checkpoint = after(checkpoint, result)
    assert planned(checkpoint, failed_build(uid="the third")).build.is_stalled


def test_a_node_with_a_limit_is_avoided_first() -> None:
    checkpoint = make_checkpoint()
    for node in ("node-a", "node-b", "node-c"):
        limited = planned(checkpoint, failed_build(node, reason="DiskFull"))
        [order] = planned(after(checkpoint, limited), at=AFTER_PAUSE).create
        assert order.node_name != node


def test_without_its_revision_nothing_is_ordered() -> None:
    result = planned(revisions=())
    assert result.create == ()
    assert (result.phase, result.reason) == (CheckpointPhase.PENDING, "RevisionPending")
    old = planned(make_checkpoint(serving=REVISION), make_node_checkpoint("node-a"), revisions=())
    assert old.create == (), "an agent could not read what it is to restore"


def test_a_node_that_unpacks_or_tests_a_revision_is_waited_for() -> None:
    for phase in (Phase.FETCHING, Phase.PREPARING, Phase.VERIFYING):
        node_checkpoint = make_node_checkpoint("node-b", phase=phase, fetch=FETCH)
        node_checkpoints = make_node_checkpoint("node-a"), node_checkpoint
        result = planned(
            make_checkpoint(serving=REVISION),
            *node_checkpoints,
            agents=[
                make_agent("node-a"),
                make_agent("node-b"),
            ],
        )
        assert result.phase is CheckpointPhase.DISTRIBUTING
        assert result.distribution.nodes_ready == 1, "no test restore answered there yet"


def test_a_checkpoint_whose_build_node_falls_silent_is_built_elsewhere() -> None:
    agents = [make_silent_agent("node-a"), make_agent("node-b")]
    building = make_node_checkpoint("node-a", phase=Phase.BUILDING)
    checkpoint = make_checkpoint()
    result = planned(checkpoint, building, agents=agents)
    assert result.delete == (building,)
    assert result.build.failures.last is not None
    assert result.build.failures.last.reason == "NodeLost"
    checkpoint = after(checkpoint, result)
    [order] = planned(checkpoint, agents=agents, at=AFTER_PAUSE).create
    assert order.node_name == "node-b"


# -- the first good NodeCheckpoint ----------------------------------------------------------------


def test_a_verified_build_serves_and_is_copied_to_the_others() -> None:
    built = make_node_checkpoint("node-a", build_duration=timedelta(seconds=12.34))
    result = planned(None, built)
    assert result.serving.revision == REVISION
    assert result.candidate is None
    assert result.serving.archive == make_archive()
    assert result.phase is CheckpointPhase.DISTRIBUTING
    [event] = result.events
    assert (event.reason, event.is_warning) == ("Verified", False)
    assert "in 12.3 s" in event.note
    assert sorted(order.node_name for order in result.create) == ["node-b", "node-c"]
    for order in result.create:
        assert order.fetch is not None
        assert order.fetch.archive == make_archive()
        [source] = order.fetch.sources
        assert (source.node_name, source.certificate) == ("node-a", "certificate of node-a")


def test_that_it_was_verified_is_reported_once() -> None:
    checkpoint = make_checkpoint()
    checkpoint = after(checkpoint, planned(checkpoint, make_node_checkpoint("node-a")))
    assert planned(checkpoint, make_node_checkpoint("node-a")).events == ()


def test_with_all_node_checkpoints_it_is_ready() -> None:
    node_checkpoints = [make_node_checkpoint("node-a"), make_node_checkpoint("node-b", fetch=FETCH)]
    result = planned(make_checkpoint(serving=REVISION), *node_checkpoints, agents=AGENTS[:2])
    assert result.phase is CheckpointPhase.READY
    assert (result.distribution.nodes_ready, result.distribution.nodes_desired) == (2, 2)
    assert result.distribution.missing == ()
    assert not result.create
    assert not result.delete
    assert not result.distribution.fetch_updates


def test_earlier_failures_are_forgotten_once_it_works() -> None:
    checkpoint = make_checkpoint()
    checkpoint = after(checkpoint, planned(checkpoint, failed_build()))
    result = planned(checkpoint, make_node_checkpoint("node-b"))
    assert (
        result.build.failures.attempts,
        result.build.failures.last,
        result.build.failures.retry_at,
    ) == (0, None, None)


def test_as_many_nodes_hold_a_node_checkpoint_as_the_spec_says() -> None:
    result = planned(make_checkpoint(copies=2, serving=REVISION), make_node_checkpoint("node-c"))
    assert result.distribution.nodes_desired == 2
    assert len(result.create) == 1


def test_fewer_node_checkpoints_give_their_space_back() -> None:
    node_checkpoints = [
        make_node_checkpoint("node-a"),
        *(make_node_checkpoint(f"node-{x}", fetch=FETCH) for x in "bc"),
    ]
    result = planned(make_checkpoint(copies=1, serving=REVISION), *node_checkpoints)
    assert len(result.delete) == 2
    assert (result.distribution.nodes_ready, result.distribution.nodes_desired) == (1, 1)


def test_a_node_of_another_architecture_gets_no_node_checkpoint() -> None:
    built = make_node_checkpoint("node-a")
    architectures = {"node-a": "amd64", "node-b": "arm64", "node-c": "amd64"}
    result = planned(make_checkpoint(serving=REVISION), built, architectures=architectures)
    assert [order.node_name for order in result.create] == ["node-c"]
    assert result.distribution.nodes_desired == 2


OLD_CPU, NEW_CPU = ("fxsr", "sse4_2"), ("avx", "fxsr", "sse4_2", "xsave")


def processors(**features: tuple[str, ...]) -> list[NodeAgent]:
    return [make_agent(f"node-{name}", cpu_features=own) for name, own in features.items()]


def made_on(features: tuple[str, ...]) -> Archive:
    return make_archive(versions=Versions(cpu_features=features))


def serving(archive: Archive) -> Checkpoint:
    checkpoint = make_checkpoint(serving=REVISION)
    status = checkpoint.status.model_copy(update={"archive": archive})
    return checkpoint.model_copy(update={"status": status})


def test_an_archive_is_not_sent_where_the_processor_lacks_what_it_may_use() -> None:
    archive = made_on(NEW_CPU)
    built = make_node_checkpoint("node-a", archive=archive)
    result = planned(serving(archive), built, agents=processors(a=NEW_CPU, b=OLD_CPU, c=NEW_CPU))
    assert [order.node_name for order in result.create] == ["node-c"]
    assert result.distribution.nodes_desired == 2
    assert "node-b (its processor lacks avx, xsave)" in result.message
    assert "spec.distribution.nodeSelector" in result.message


def test_what_lies_on_such_a_node_is_given_up_once_another_holds_it() -> None:
    """As on a virtual machine that was moved to an older machine."""
    archive = made_on(NEW_CPU)
    built = make_node_checkpoint("node-a", archive=archive)
    moved = make_node_checkpoint(
        "node-b", fetch=FETCH, archive=archive, phase=Phase.QUARANTINED, reason="WrongProcessor"
    )
    result = planned(serving(archive), built, moved, agents=processors(a=NEW_CPU, b=OLD_CPU))
    assert nodes_of(result.delete) == ["node-b"]


def test_where_nobody_knows_the_processors_the_test_restore_decides() -> None:
    built = make_node_checkpoint("node-a", archive=made_on(()))
    result = planned(
        make_checkpoint(serving=REVISION), built, agents=processors(a=NEW_CPU, b=OLD_CPU)
    )
    assert [order.node_name for order in result.create] == ["node-b"]


def test_the_oldest_processor_builds_so_that_all_can_restore() -> None:
    result = planned(agents=processors(a=NEW_CPU, b=OLD_CPU, c=NEW_CPU))
    assert [order.node_name for order in result.create] == ["node-b"]


def test_a_build_that_cannot_be_used_any_more_says_why() -> None:
    built = make_node_checkpoint(
        "node-a", phase=Phase.QUARANTINED, reason="WrongProcessor", message="it lacks avx"
    )
    result = planned(make_checkpoint(serving=REVISION), built, agents=processors(a=OLD_CPU))
    assert result.build.reason == "ArchiveLost"
    assert "it lacks avx" in result.build.message


def test_the_builders_architecture_counts_where_node_checkpoints_went_anywhere_before() -> None:
    elsewhere, built = make_node_checkpoint("node-b", fetch=FETCH), make_node_checkpoint("node-a")
    architectures = {"node-a": "amd64", "node-b": "arm64", "node-c": "amd64"}
    result = planned(
        make_checkpoint(serving=REVISION), elsewhere, built, architectures=architectures
    )
    assert nodes_of(result.delete) == ["node-b"]
    assert [order.node_name for order in result.create] == ["node-c"]


def test_a_cordoned_node_keeps_its_node_checkpoint_and_gets_no_other() -> None:
    result = planned(
        make_checkpoint(serving=REVISION), make_node_checkpoint("node-a"), cordoned=["node-b"]
    )
    assert [order.node_name for order in result.create] == ["node-c"]
    assert result.distribution.nodes_desired == 2
    result = planned(
        make_checkpoint(serving=REVISION), make_node_checkpoint("node-a"), cordoned=["node-a"]
    )
    assert {order.node_name for order in result.create} == {"node-b", "node-c"}
    assert not result.delete


def test_where_all_holders_are_cordoned_one_more_node_holds_a_node_checkpoint() -> None:
    checkpoint = make_checkpoint(serving=REVISION, copies=1)
    assert not planned(checkpoint, make_node_checkpoint("node-a")).create
    result = planned(checkpoint, make_node_checkpoint("node-a"), cordoned=["node-a"])
    assert len(result.create) == 1
    assert not result.delete
    assert not planned(
        checkpoint, make_node_checkpoint("node-a"), cordoned=["node-a", "node-b", "node-c"]
    ).create


def test_what_waits_on_a_cordoned_node_is_moved() -> None:
    checkpoint = make_checkpoint(serving=REVISION)
    spec = checkpoint.spec.model_copy(update={"pool": Pool(warm=2)})
    checkpoint = checkpoint.model_copy(update={"spec": spec})
    node_checkpoints = [make_node_checkpoint("node-a"), make_node_checkpoint("node-b", fetch=FETCH)]
    result = planned(checkpoint, *node_checkpoints, cordoned=["node-a"])
    assert [(c.spec.node_name, p.warm) for c, p in result.pool.updates] == [("node-b", 2)]


def test_a_silent_node_is_not_sent_a_node_checkpoint() -> None:
    agents = [make_agent("node-a"), make_silent_agent("node-b")]
    result = planned(
        make_checkpoint(serving=REVISION), make_node_checkpoint("node-a"), agents=agents
    )
    assert result.create == ()
    assert result.distribution.missing == ("node-b",)
    assert result.phase is CheckpointPhase.READY, "one dead node must not hold up the others"
    assert "without a Ready NodeCheckpoint: node-b" in result.message


def test_a_node_checkpoint_where_nothing_can_be_restored_does_not_count() -> None:
    agents = [make_agent("node-a"), make_agent("node-b", criu=False)]
    node_checkpoints = [make_node_checkpoint("node-a"), make_node_checkpoint("node-b", fetch=FETCH)]
    result = planned(make_checkpoint(serving=REVISION), *node_checkpoints, agents=agents)
    assert (result.distribution.nodes_ready, result.distribution.nodes_desired) == (1, 2)
    assert "silent or without CRIU: node-b" in result.message


def test_when_no_node_can_restore_it_is_not_ready() -> None:
    agents = [make_agent("node-a", criu=False)]
    result = planned(
        make_checkpoint(serving=REVISION), make_node_checkpoint("node-a"), agents=agents
    )
    assert (result.phase, result.reason) == (CheckpointPhase.PENDING, "NoNodeCanRestore")


# -- NodeCheckpoints on their way ------------------------------------------------------------------


def fetching(node: str = "node-b", *, reason: str = "", fetch: Fetch = FETCH) -> NodeCheckpoint:
    return make_node_checkpoint(node, phase=Phase.FETCHING, reason=reason, fetch=fetch)


def test_node_checkpoints_under_way_are_waited_for() -> None:
    result = planned(
        make_checkpoint(serving=REVISION),
        make_node_checkpoint("node-a"),
        fetching(),
        agents=AGENTS[:2],
    )
    assert result.distribution.is_fetching
    assert result.phase is CheckpointPhase.DISTRIBUTING


def test_a_node_that_cannot_fetch_does_not_hold_up_the_others() -> None:
    stuck = fetching(reason="FetchFailed")
    result = planned(
        make_checkpoint(serving=REVISION), make_node_checkpoint("node-a"), stuck, agents=AGENTS[:2]
    )
    assert not result.distribution.is_fetching
    assert result.phase is CheckpointPhase.READY
    assert result.distribution.missing == ("node-b",)


def test_a_source_that_falls_silent_is_replaced_in_the_order() -> None:
    order = planned(None, make_node_checkpoint("node-a"), agents=AGENTS[:2]).create[0].fetch
    assert order is not None
    agents = [make_silent_agent("node-a"), make_agent("node-b"), make_agent("node-c")]
    good = [make_node_checkpoint("node-a"), make_node_checkpoint("node-c", fetch=FETCH)]
    under_way = fetching(fetch=order)
    result = planned(make_checkpoint(serving=REVISION), *good, under_way, agents=agents)
    [(node_checkpoint, new)] = result.distribution.fetch_updates
    assert node_checkpoint is under_way
    assert [source.node_name for source in new.sources] == ["node-c"]


def test_an_order_that_still_holds_is_not_given_again() -> None:
    order = planned(None, make_node_checkpoint("node-a"), agents=AGENTS[:2]).create[0].fetch
    assert order is not None
    result = planned(
        make_checkpoint(serving=REVISION),
        make_node_checkpoint("node-a"),
        fetching(fetch=order),
        agents=AGENTS[:2],
    )
    assert result.distribution.fetch_updates == ()


def test_a_damaged_node_checkpoint_is_fetched_anew_from_a_good_one() -> None:
    damaged = make_node_checkpoint("node-a", phase=Phase.QUARANTINED, reason="DigestMismatch")
    good = make_node_checkpoint("node-b", fetch=FETCH)
    result = planned(make_checkpoint(serving=REVISION), damaged, good, agents=AGENTS[:2])
    [(node_checkpoint, order)] = result.distribution.fetch_updates
    assert node_checkpoint is damaged, "the builder's own NodeCheckpoint as well"
    assert [source.node_name for source in order.sources] == ["node-b"]
    assert result.serving.revision == REVISION
    assert not result.create
    assert not result.delete


def test_when_the_last_node_checkpoint_is_damaged_it_is_built_anew() -> None:
    checkpoint = make_checkpoint(serving=REVISION)
    damaged = make_node_checkpoint("node-a", phase=Phase.QUARANTINED, reason="DigestMismatch")
    result = planned(checkpoint, damaged)
    assert result.serving.revision is None
    assert result.serving.archive is None
    assert result.delete == (damaged,)
    assert result.build.failures.last is not None
    assert result.build.failures.last.reason == "ArchiveLost"
    checkpoint = after(checkpoint, result)
    assert len(planned(checkpoint, at=AFTER_PAUSE).create) == 1


def test_node_checkpoints_that_nobody_can_feed_any_more_are_dropped_for_a_new_build() -> None:
    waiting = fetching("node-b")
    result = planned(make_checkpoint(serving=REVISION), waiting)
    assert result.delete == (waiting,)
    assert [order.fetch for order in result.create] == [None]


# -- nodes that come and go -----------------------------------------------------------------------


def test_a_new_node_gets_a_node_checkpoint() -> None:
    node_checkpoints = [make_node_checkpoint("node-a"), make_node_checkpoint("node-b", fetch=FETCH)]
    result = planned(make_checkpoint(serving=REVISION), *node_checkpoints)
    assert [order.node_name for order in result.create] == ["node-c"]
    assert result.delete == ()


def test_a_node_that_is_not_selected_any_more_gives_its_space_back() -> None:
    node_checkpoints = [make_node_checkpoint("node-a"), make_node_checkpoint("node-b", fetch=FETCH)]
    result = planned(make_checkpoint(serving=REVISION), *node_checkpoints, selected=["node-b"])
    assert nodes_of(result.delete) == ["node-a"]


def test_other_nodes_get_their_node_checkpoint_before_the_old_ones_lose_theirs() -> None:
    node_checkpoints = [make_node_checkpoint("node-a"), make_node_checkpoint("node-b", fetch=FETCH)]
    checkpoint = make_checkpoint(serving=REVISION)
    moving = planned(checkpoint, *node_checkpoints, selected=["node-c"])
    assert moving.delete == (), "or there would be nobody to fetch from"
    [order] = moving.create
    assert order.fetch is not None
    assert {source.node_name for source in order.fetch.sources} == {"node-a", "node-b"}
    moved = planned(
        checkpoint,
        *node_checkpoints,
        make_node_checkpoint("node-c", fetch=FETCH),
        selected=["node-c"],
    )
    assert nodes_of(moved.delete) == ["node-a", "node-b"]


def test_a_node_checkpoint_on_a_node_that_left_the_cluster_is_let_go() -> None:
    node_checkpoints = [make_node_checkpoint("node-a"), make_node_checkpoint("node-b", fetch=FETCH)]
    result = planned(make_checkpoint(serving=REVISION), *node_checkpoints, agents=AGENTS[1:])
    assert nodes_of(result.delete) == ["node-a"]
    assert result.serving.revision == REVISION


def test_when_the_only_holder_left_the_cluster_it_is_built_anew() -> None:
    node_checkpoint = make_node_checkpoint("node-a")
    result = planned(make_checkpoint(serving=REVISION), node_checkpoint, agents=AGENTS[1:])
    assert result.delete == (node_checkpoint,)
    assert result.serving.revision is None
    [order] = result.create
    assert order.fetch is None
    assert order.node_name in {"node-b", "node-c"}


def test_a_holder_that_is_only_silent_keeps_its_node_checkpoint() -> None:
    agents = [make_silent_agent("node-a"), make_agent("node-b")]
    result = planned(
        make_checkpoint(serving=REVISION), make_node_checkpoint("node-a"), agents=agents
    )
    assert result.serving.revision == REVISION
    assert result.delete == ()


def test_an_agent_whose_report_was_deleted_keeps_its_node_checkpoint() -> None:
    result = planned(
        make_checkpoint(serving=REVISION),
        make_node_checkpoint("node-a"),
        agents=(),
        nodes=["node-a"],
    )
    assert result.delete == ()
    assert result.serving.revision == REVISION


# -- a new revision -------------------------------------------------------------------------------


def make_old_node_checkpoint(node: str = "node-a", **changes: object) -> NodeCheckpoint:
    return make_node_checkpoint(node, revision=OLD, **changes)  # type: ignore[arg-type]


def test_the_old_revision_serves_until_the_new_one_is_verified() -> None:
    old = make_old_node_checkpoint()
    result = planned(make_checkpoint(serving=OLD), old, agents=AGENTS[:1])
    assert result.serving.revision == OLD
    assert result.candidate == REVISION
    assert result.serving.archive is not None
    assert [order.revision for order in result.create] == [REVISION]
    assert result.delete == ()
    assert result.distribution.nodes_ready == 1


def test_a_new_revision_that_fails_leaves_the_old_one_serving() -> None:
    checkpoint, result = make_checkpoint(serving=OLD), Plan()
    for i in range(MAX_BUILDS):
        result = planned(checkpoint, make_old_node_checkpoint(), failed_build(uid=f"uid-{i}"))
        checkpoint = after(checkpoint, result)
    result = planned(checkpoint, make_old_node_checkpoint(), at=NOW + timedelta(days=1))
    assert result.build.is_stalled
    assert result.serving.revision == OLD
    assert result.distribution.nodes_ready == 1
    assert [order.revision for order in result.create] == [OLD, OLD], (
        "NodeCheckpoints of what serves"
    )


def test_the_old_revision_is_dropped_once_the_new_one_serves() -> None:
    old = make_old_node_checkpoint()
    result = planned(make_checkpoint(serving=OLD), old, make_node_checkpoint("node-a"))
    assert result.serving.revision == REVISION
    assert result.delete == (old,)


def test_the_old_revision_stays_while_somebody_starts_from_it() -> None:
    old = make_old_node_checkpoint()
    result = planned(
        make_checkpoint(serving=OLD), old, make_node_checkpoint("node-a"), starting=[OLD]
    )
    assert result.delete == ()


def test_a_revision_that_was_overtaken_while_it_was_built_is_dropped() -> None:
    overtaken = make_old_node_checkpoint(phase=Phase.BUILDING)
    result = planned(make_checkpoint(), overtaken)
    assert result.delete == (overtaken,)
    assert [order.revision for order in result.create] == [REVISION]


def test_what_is_on_its_way_out_is_not_deleted_again() -> None:
    old = make_old_node_checkpoint(deleting=True)
    assert planned(make_checkpoint(serving=OLD), old, make_node_checkpoint("node-a")).delete == ()


def test_a_change_that_makes_no_new_revision_builds_nothing() -> None:
    checkpoint = make_checkpoint(generation=2, spec=make_spec(copies=1), serving=REVISION)
    result = planned(checkpoint, make_node_checkpoint("node-a"))
    assert not result.create
    assert not result.delete
