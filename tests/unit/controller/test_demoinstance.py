"""An instance's way to a node, and its end."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.builders import (
    OTHER_REVISION,
    REVISION,
    add_node,
    make_agent,
    make_checkpoint,
    make_condition,
    make_demo,
    make_node_checkpoint,
    make_revision,
)
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.checkpoint import Checkpoint, CheckpointStatus, OnCrash
from tryitnow.api.demoinstance import (
    REVISION_UNCONFIRMED,
    DemoInstance,
    DemoInstancePhase,
    DemoInstanceStatus,
)
from tryitnow.api.hooks import Parameter
from tryitnow.api.meta import Condition, ConditionStatus, find_condition, now
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.demoinstance import RESYNC_INTERVAL, reconcile_instance
from tryitnow.kubernetes.errors import ConflictError, KubernetesError

Phase = DemoInstancePhase


class World:
    """Two healthy nodes with room for two demos each, and a Checkpoint that both hold."""

    def __init__(self, kubernetes: FakeKubernetes) -> None:
        self.kubernetes = kubernetes
        self.cluster = Cluster(listed=True)
        for name in ("node-a", "node-b"):
            add_node(self.cluster, make_agent(name, seen=now(), capacity=2))
            self.cluster.node_checkpoints.update(make_node_checkpoint(name))
        self.cluster.revisions.update(make_revision())
        self.cluster.checkpoints.update(make_checkpoint(serving=REVISION))

    def add(self, instance: DemoInstance) -> DemoInstance:
        return self.cluster.instances.update(self.kubernetes.put(instance))

    async def reconcile(self, instance: DemoInstance) -> timedelta | None:
        return await reconcile_instance(self.kubernetes, self.cluster, instance.key)

    def status(self, instance: DemoInstance) -> DemoInstanceStatus:
        return self.kubernetes.find(instance).status


@pytest.fixture
def world(kubernetes: FakeKubernetes) -> World:
    return World(kubernetes)


def ready_of(status: DemoInstanceStatus) -> Condition:
    found = find_condition(status.conditions, "Ready")
    assert found is not None
    return found


# -- bound ----------------------------------------------------------------------------------------


async def test_an_instance_is_bound_to_a_node(world: World) -> None:
    demo = world.add(make_demo())
    assert await world.reconcile(demo) is None
    status = world.status(demo)
    assert status.node_name in {"node-a", "node-b"}
    assert status.revision == REVISION
    assert status.phase is Phase.STARTING
    assert (ready_of(status).status, ready_of(status).reason) == (ConditionStatus.UNKNOWN, "Bound")
    assert status.observed_generation == 1
    assert status.timings is not None
    assert status.timings.bind is not None
    assert world.kubernetes.reasons() == ["Bound"]


async def test_parameters_that_the_checkpoint_does_not_declare_are_refused(world: World) -> None:
    instance = make_demo()
    spec = instance.spec.model_copy(update={"parameters": {"titel": "x"}})
    demo = world.add(instance.model_copy(update={"spec": spec}))
    await world.reconcile(demo)
    status = world.status(demo)
    assert status.node_name is None
    assert status.phase is Phase.FAILED
    ready, stalled = ready_of(status), find_condition(status.conditions, "Stalled")
    assert (ready.status, ready.reason) == (ConditionStatus.FALSE, "InvalidParameters")
    assert ready.message.startswith("spec.parameters.titel is not declared")
    assert stalled
    assert stalled.status is ConditionStatus.TRUE
    # It is the Checkpoint that was wrong. Its next revision takes them, and is not built yet.
    declaring = make_checkpoint(serving=REVISION)
    spec_with = declaring.spec.model_copy(update={"parameters": (Parameter(name="titel"),)})
    declaring = declaring.model_copy(update={"spec": spec_with})
    world.cluster.checkpoints.update(declaring)
    await world.reconcile(demo)
    status = world.status(demo)
    ready, stalled = ready_of(status), find_condition(status.conditions, "Stalled")
    assert (ready.status, ready.reason) == (ConditionStatus.UNKNOWN, "RevisionPending")
    assert "waits until that one is built" in ready.message
    assert status.phase is Phase.PENDING
    assert stalled
    assert stalled.status is ConditionStatus.FALSE
    newest = make_revision(definition=spec_with.definition(), number=2)
    world.cluster.revisions.update(newest)
    served = CheckpointStatus(current_revision=newest.spec.identity)
    world.cluster.checkpoints.update(declaring.model_copy(update={"status": served}))
    await world.reconcile(demo)
    status = world.status(demo)
    assert status.phase is Phase.STARTING
    assert status.revision == newest.spec.identity
    stalled = find_condition(status.conditions, "Stalled")
    assert stalled
    assert stalled.status is ConditionStatus.FALSE


async def test_one_that_its_agent_may_not_start_gets_the_revision_of_a_new_one(
    world: World,
) -> None:
    """Its Checkpoint said something else before the agent could see what it had said."""
    unconfirmed = make_condition("Ready", holds=False, reason=REVISION_UNCONFIRMED)
    bound: dict[str, Any] = {"node": "node-a", "revision": OTHER_REVISION, "phase": Phase.STARTING}
    waits = world.add(make_demo("waits", **bound, conditions=(unconfirmed,)))
    await world.reconcile(waits)
    assert world.status(waits).revision == REVISION
    assert world.status(waits).node_name == "node-a"
    for name, status in (
        ("starts", {"conditions": (make_condition("Ready", holds=False),)}),
        ("was-ready", {"conditions": (unconfirmed,), "ready_at": now()}),
    ):
        other = world.add(make_demo(name, **bound, **status))
        await world.reconcile(other)
        assert world.status(other).revision == OTHER_REVISION


async def test_it_is_bound_once_in_its_life(world: World) -> None:
    demo = world.add(make_demo())
    await world.reconcile(demo)
    first = world.status(demo)
    world.cluster.agents.forget(make_agent(str(first.node_name)).key)
    await world.reconcile(demo)
    assert world.status(demo) == first


async def test_one_that_somebody_touched_meanwhile_is_reconciled_anew(world: World) -> None:
    demo = world.add(make_demo())
    world.kubernetes.put(demo)  # a newer version than the one in the view
    with pytest.raises(ConflictError):
        await world.reconcile(demo)
    loads = [world.cluster.load(node) for node in ("node-a", "node-b")]
    assert loads == [0, 0], "a bind that failed takes no room"
    assert world.status(demo).node_name is None


async def test_ten_at_once_do_not_overfill_a_node(world: World) -> None:
    demos = [world.add(make_demo(f"demo-{i}")) for i in range(10)]
    await asyncio.gather(*(world.reconcile(demo) for demo in demos))
    bound = [node for d in demos if (node := world.status(d).node_name)]
    assert sorted(bound) == ["node-a", "node-a", "node-b", "node-b"]


class Slow(FakeKubernetes):
    """Gives others a chance while it writes, as a real API server does."""

    async def patch_status(self, before: Any, status: dict[str, Any], **options: Any) -> Any:
        for _ in range(3):
            await asyncio.sleep(0)
        return await super().patch_status(before, status, **options)


async def test_a_bind_that_is_still_being_written_counts_already() -> None:
    await test_ten_at_once_do_not_overfill_a_node(World(Slow()))


async def test_one_that_ends_makes_room_for_one_that_waits(world: World) -> None:
    nodes = ["node-a", "node-a", "node-b", "node-b"]
    running = [world.add(make_demo(f"demo-{i}", node=n)) for i, n in enumerate(nodes)]
    waiting = world.add(make_demo("waiting"))
    assert await world.reconcile(waiting) == RESYNC_INTERVAL
    assert ready_of(world.status(waiting)).reason == "NoRoom"
    world.cluster.instances.forget(running[0].key)
    await world.reconcile(waiting)
    assert world.status(waiting).node_name == "node-a"


# -- refused --------------------------------------------------------------------------------------


async def test_a_checkpoint_that_does_not_exist_is_named(world: World) -> None:
    demo = world.add(make_demo(checkpoint="shoop"))
    assert await world.reconcile(demo) == RESYNC_INTERVAL
    status = world.status(demo)
    ready = ready_of(status)
    assert (ready.status, ready.reason) == (ConditionStatus.FALSE, "CheckpointNotFound")
    assert ready.message.startswith("spec.checkpointRef.name: there is no Checkpoint 'shoop'")
    assert status.phase is Phase.PENDING
    assert status.node_name is None


async def test_a_checkpoint_whose_event_has_not_come_yet_is_asked_for(world: World) -> None:
    """Both were created at once, and each kind has a watch of its own."""
    world.kubernetes.put(make_checkpoint("late"))
    uid = make_checkpoint().metadata.uid
    world.cluster.revisions.update(make_revision("late", uid=uid))
    demo = world.add(make_demo(checkpoint="late"))
    await world.reconcile(demo)
    status = world.status(demo)
    assert ready_of(status).reason == "Bound"
    assert status.revision == REVISION, "nothing serves yet: it starts cold"


async def test_a_checkpoint_that_cannot_be_read_is_not_called_missing(world: World) -> None:
    world.kubernetes.put_body(Checkpoint, {**make_checkpoint("newer").to_api(), "spec": {}})
    demo = world.add(make_demo(checkpoint="newer"))
    assert await world.reconcile(demo) == RESYNC_INTERVAL
    ready = ready_of(world.status(demo))
    assert ready.reason == "CheckpointUnreadable"
    assert "spec.template: Field required" in ready.message


async def test_a_checkpoint_in_another_namespace_is_another_one(world: World) -> None:
    demo = world.add(make_demo(namespace="elsewhere"))
    await world.reconcile(demo)
    assert ready_of(world.status(demo)).reason == "CheckpointNotFound"


async def test_a_checkpoint_that_is_being_deleted_serves_nobody_new(world: World) -> None:
    world.cluster.checkpoints.update(make_checkpoint(uid="another", deleting=True))
    world.cluster.checkpoints.forget(make_checkpoint().key, "uid-of-shop")
    demo = world.add(make_demo())
    await world.reconcile(demo)
    assert ready_of(world.status(demo)).reason == "CheckpointNotFound"


async def test_a_refusal_is_reported_once(world: World) -> None:
    demo = world.add(make_demo(checkpoint="shoop"))
    for _ in range(3):
        await world.reconcile(demo)
    assert world.kubernetes.reasons() == ["CheckpointNotFound"]
    assert len(world.kubernetes.writes) == 1


async def test_it_is_bound_as_soon_as_what_was_missing_is_there(world: World) -> None:
    checkpoint = make_checkpoint(serving=REVISION)
    world.cluster.checkpoints.forget(checkpoint.key)
    demo = world.add(make_demo())
    await world.reconcile(demo)
    world.cluster.checkpoints.update(checkpoint)
    await world.reconcile(demo)
    assert world.status(demo).node_name is not None
    assert ready_of(world.status(demo)).status is ConditionStatus.UNKNOWN


# -- expired --------------------------------------------------------------------------------------


async def test_an_instance_whose_time_is_over_is_deleted(world: World) -> None:
    demo = world.add(make_demo(ttl=timedelta(minutes=5), created=now() - timedelta(minutes=5)))
    assert await world.reconcile(demo) is None
    assert not world.kubernetes.has(demo)
    assert world.kubernetes.reasons() == ["Expired"]


async def test_it_is_reconciled_again_when_its_time_is_over(world: World) -> None:
    demo = world.add(make_demo(ttl=timedelta(minutes=5), created=now(), node="node-a"))
    requeue_after = await world.reconcile(demo)
    assert requeue_after is not None
    assert timedelta(minutes=4) < requeue_after <= timedelta(minutes=5)
    assert world.status(demo).expires_at is not None


async def test_one_that_waits_expires_as_well(world: World) -> None:
    demo = world.add(make_demo(checkpoint="shoop", ttl=timedelta(seconds=3), created=now()))
    requeue_after = await world.reconcile(demo)
    assert requeue_after is not None
    assert requeue_after <= timedelta(seconds=3)


@pytest.mark.parametrize("ttl", [timedelta(hours=2), timedelta(hours=3), None])
async def test_a_changed_ttl_moves_the_end(world: World, ttl: timedelta | None) -> None:
    created = now().replace(microsecond=0)
    demo = world.add(make_demo(ttl=timedelta(hours=1), created=created, node="node-a"))
    await world.reconcile(demo)
    changed = make_demo(ttl=ttl, created=created, node="node-a").model_copy(
        update={"status": world.status(demo)}
    )
    world.add(changed)
    await world.reconcile(demo)
    assert world.status(demo).expires_at == (created + ttl if ttl else None)


async def test_the_end_is_written_once(world: World) -> None:
    demo = world.add(make_demo(ttl=timedelta(hours=1), created=now(), node="node-a"))
    for _ in range(3):
        await world.reconcile(demo)
    assert len(world.kubernetes.writes) == 1


async def test_what_happens_at_a_crash_may_be_changed_as_long_as_it_lives(world: World) -> None:
    demo = world.add(make_demo())
    await world.reconcile(demo)
    bound = world.kubernetes.find(demo)
    assert bound.status.on_crash is OnCrash.KEEP
    spec = bound.spec.model_copy(update={"on_crash": OnCrash.RESET})
    world.add(bound.model_copy(update={"spec": spec}))
    await world.reconcile(demo)
    assert world.status(demo).on_crash is OnCrash.RESET
    # The Checkpoint's default is looked at when a demo starts, and never again.
    resetting = make_checkpoint(serving=REVISION)
    spec_of = resetting.spec.model_copy(update={"on_crash": OnCrash.RESET})
    other = world.add(make_demo("other"))
    await world.reconcile(other)
    world.cluster.checkpoints.update(resetting.model_copy(update={"spec": spec_of}))
    await world.reconcile(other)
    assert world.status(other).on_crash is OnCrash.KEEP


async def test_what_the_agent_wrote_stays(world: World) -> None:
    demo = world.add(
        make_demo(
            ttl=timedelta(hours=1),
            created=now(),
            node="node-a",
            phase=Phase.READY,
            url="http://node-a.example:20001",
            conditions=(make_condition("Ready", reason="Restore"),),
        )
    )
    await world.reconcile(demo)
    status = world.status(demo)
    assert (status.phase, status.url) == (Phase.READY, "http://node-a.example:20001")
    assert ready_of(status).reason == "Restore"


async def test_without_a_ttl_nothing_ends(world: World) -> None:
    demo = world.add(make_demo(node="node-a", created=now() - timedelta(days=3000)))
    assert await world.reconcile(demo) is None
    assert world.kubernetes.has(demo)


# -- left alone -----------------------------------------------------------------------------------


async def test_one_that_is_being_deleted_is_left_to_its_node(world: World) -> None:
    demo = world.add(make_demo(deleting=True, finalizer=True, ttl=timedelta(seconds=1)))
    assert await world.reconcile(demo) is None
    assert world.kubernetes.writes == []


async def test_one_that_is_gone_needs_nothing(world: World) -> None:
    assert await world.reconcile(make_demo("nobody")) is None


async def test_an_api_server_that_is_away_is_the_queues_affair(world: World) -> None:
    demo = world.add(make_demo())
    world.kubernetes.is_down = True
    with pytest.raises(KubernetesError):
        await world.reconcile(demo)
    world.kubernetes.is_down = False
    await world.reconcile(demo)
    assert world.status(demo).node_name is not None
