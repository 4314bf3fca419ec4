"""What the API server refuses reaches the object that it is about, once, and is tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.builders import (
    OTHER_REVISION,
    REVISION,
    Clock,
    add_node,
    make_agent,
    make_archive,
    make_checkpoint,
    make_demo,
    make_node_checkpoint,
    make_revision,
)
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.checkpoint import Checkpoint, CheckpointPhase, CheckpointStatus, Pool
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Condition, ConditionStatus, Resource, find_condition, now
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpoint
from tryitnow.backoff import Backoff
from tryitnow.controller.checkpoint import reconcile_checkpoint
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.demoinstance import reconcile_instance
from tryitnow.controller.refusals import PAUSES, Attempt, Refusals
from tryitnow.kubernetes.errors import ForbiddenError, RefusedError

QUOTA = ForbiddenError("403 Forbidden: exceeded quota: nodecheckpoints, requested: 1, used: 9")
FALSE, UNKNOWN, TRUE = ConditionStatus.FALSE, ConditionStatus.UNKNOWN, ConditionStatus.TRUE


class World:
    """Three nodes, and an API server that may refuse things."""

    def __init__(self, *resources: Resource) -> None:
        self.kubernetes = FakeKubernetes()
        self.clock = Clock()
        self.cluster = Cluster(listed=True, refusals=Refusals(Backoff(PAUSES, clock=self.clock)))
        for name in ("node-a", "node-b", "node-c"):
            add_node(self.cluster, make_agent(name, seen=now()))
        for resource in resources:
            known = self.kubernetes.put(resource)
            if isinstance(known, Checkpoint):
                self.cluster.checkpoints.update(known)
            elif isinstance(known, NodeCheckpoint):
                self.cluster.node_checkpoints.update(known)
            elif isinstance(known, DemoInstance):
                self.cluster.instances.update(known)
            elif isinstance(known, CheckpointRevision):
                self.cluster.revisions.update(known)

    def refuse(self, method: str, about: str, error: RefusedError = QUOTA) -> None:
        self.kubernetes.refusals[method, about] = error

    def allow(self) -> None:
        self.kubernetes.refusals.clear()

    async def plan(self, times: int = 1) -> CheckpointStatus:
        key = make_checkpoint().key
        for _ in range(times):
            self.again = await reconcile_checkpoint(self.kubernetes, self.cluster, key)
        return self.kubernetes.find(make_checkpoint()).status

    def wait(self, seconds: float = 400) -> None:
        self.clock.seconds += seconds

    async def node_checkpoints(self) -> list[NodeCheckpoint]:
        return (await self.kubernetes.list_all(NodeCheckpoint)).items


def condition(status: CheckpointStatus, type_: str) -> Condition:
    found = find_condition(status.conditions, type_)
    assert found is not None
    return found


# -- a Checkpoint ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [QUOTA, RefusedError("422 Invalid: an admission policy says no")])
async def test_a_build_that_cannot_be_ordered_is_reported_and_not_claimed(
    error: RefusedError,
) -> None:
    world = World(make_checkpoint())
    world.refuse("POST", "nodecheckpoints", error)
    status = await world.plan(times=5)
    ready = condition(status, "Ready")
    assert (ready.status, ready.reason) == (FALSE, "CannotCreateNodeCheckpoint")
    assert str(error) in ready.message
    assert status.phase is CheckpointPhase.PENDING
    assert "ordered" not in ready.message.replace("no build can be ordered", "")
    assert world.kubernetes.reasons() == ["CannotCreateNodeCheckpoint"], "and no Building"
    assert world.again is not None
    assert timedelta() < world.again <= 1.2 * PAUSES.first


async def test_a_refused_build_is_tried_again_with_growing_pauses() -> None:
    world = World(make_checkpoint())
    world.refuse("POST", "nodecheckpoints")
    pauses = []
    for _ in range(4):
        await world.plan()
        assert world.again is not None
        pauses.append(world.again)
        world.wait(world.again.total_seconds() + 0.1)
    assert pauses[1] > pauses[0]
    assert world.kubernetes.reasons() == ["CannotCreateNodeCheckpoint"]
    world.allow()
    status = await world.plan()
    assert condition(status, "Ready").reason == "Building"
    assert [node_checkpoint.spec.fetch for node_checkpoint in await world.node_checkpoints()] == [
        None
    ]
    assert world.kubernetes.reasons()[1:] == ["Building"]


async def test_a_refusal_that_comes_back_is_reported_again() -> None:
    world = World(make_checkpoint())
    world.refuse("POST", "nodecheckpoints")
    await world.plan()
    world.wait()
    world.allow()
    await world.plan()
    [built] = await world.node_checkpoints()
    await world.kubernetes.remove_finalizer(built)
    await world.kubernetes.delete(built)
    world.cluster.node_checkpoints.forget(built.key)
    world.refuse("POST", "nodecheckpoints")
    await world.plan(times=3)
    assert world.kubernetes.reasons().count("CannotCreateNodeCheckpoint") == 2


async def test_node_checkpoints_that_cannot_be_ordered_leave_the_checkpoint_ready() -> None:
    world = World(make_checkpoint(serving=REVISION), make_node_checkpoint("node-a"))
    world.refuse("POST", "nodecheckpoints")
    status = await world.plan(times=3)
    ready, distributed = condition(status, "Ready"), condition(status, "Distributed")
    assert ready.status is TRUE
    assert "exceeded quota" in ready.message
    assert status.phase is CheckpointPhase.READY, "nothing is on its way"
    assert (distributed.status, distributed.reason) == (FALSE, "CannotCreateNodeCheckpoint")
    assert "missing: node-b, node-c" in distributed.message
    assert "exceeded quota" in distributed.message
    assert world.kubernetes.reasons() == ["CannotCreateNodeCheckpoint"]
    world.allow()
    world.wait()
    status = await world.plan()
    assert len(await world.node_checkpoints()) == 3
    assert condition(status, "Distributed").reason == "NodeCheckpointsMissing", (
        "they are on their way"
    )


async def test_a_change_or_a_removal_that_is_refused_is_reported() -> None:
    node_checkpoint = make_node_checkpoint("node-b", fetch=Fetch(archive=make_archive()))
    spec = node_checkpoint.spec.model_copy(update={"pool": Pool(warm=3)})
    stale = node_checkpoint.model_copy(update={"spec": spec})
    old = make_node_checkpoint("node-c", revision=OTHER_REVISION)
    world = World(make_checkpoint(serving=REVISION), make_node_checkpoint("node-a"), stale, old)
    world.refuse("DELETE", "nodecheckpoints", RefusedError("a webhook keeps it"))
    world.refuse("PATCH", "nodecheckpoints", RefusedError("a policy says no"))
    message = condition(await world.plan(times=2), "Ready").message
    assert "a policy says no" in message
    assert sorted(world.kubernetes.reasons()) == [
        "CannotDeleteNodeCheckpoint",
        "CannotUpdateNodeCheckpoint",
    ]
    assert "a webhook keeps it" in condition(await world.plan(), "Ready").message
    world.allow()
    world.wait()
    await world.plan(times=2)
    message = condition(await world.plan(), "Ready").message
    assert "refused" not in message
    assert world.kubernetes.find(old).is_deleting


async def test_what_is_refused_of_one_does_not_keep_the_others_waiting() -> None:
    class Picky(FakeKubernetes):
        async def delete(self, object_: object, **options: bool) -> bool:
            if getattr(object_, "key", None) == stuck.key:
                raise RefusedError("a webhook keeps it")
            return await super().delete(object_, **options)  # type: ignore[arg-type]

    stuck = make_node_checkpoint("node-b", revision=OTHER_REVISION)
    other = make_node_checkpoint("node-c", revision=OTHER_REVISION)
    world = World(make_checkpoint(serving=REVISION))
    world.kubernetes = Picky()
    world.kubernetes.put(make_checkpoint(serving=REVISION))
    for node_checkpoint in (make_node_checkpoint("node-a"), stuck, other):
        world.cluster.node_checkpoints.update(world.kubernetes.put(node_checkpoint))
    await world.plan(times=2)
    assert world.kubernetes.find(other).is_deleting
    assert not world.kubernetes.find(stuck).is_deleting


async def test_a_namesake_that_cannot_be_read_is_reported_with_its_remedy() -> None:
    """After a roll-back: the API server says that it exists, and we cannot read what it is."""
    world = World(make_checkpoint())
    for node in ("node-a", "node-b", "node-c"):
        body = {**make_node_checkpoint(node).to_api(), "spec": {"of": "a newer version"}}
        world.kubernetes.put_body(NodeCheckpoint, body)
        world.cluster.node_checkpoints.ingest(body)
    ready = condition(await world.plan(), "Ready")
    assert (ready.status, ready.reason) == (FALSE, "CannotCreateNodeCheckpoint")
    assert "already exists" in ready.message
    assert "spec.revision: Field required" in ready.message
    assert "Bring the newer version back, or delete the NodeCheckpoint" in ready.message


async def test_refusals_of_what_is_gone_are_forgotten() -> None:
    world = World(make_checkpoint())
    world.refuse("POST", "nodecheckpoints")
    await world.plan()
    refusals, uid = world.cluster.refusals, make_checkpoint().metadata.uid
    assert refusals.paused(uid)
    world.cluster.checkpoints.forget(make_checkpoint().key)
    assert not refusals.paused(uid)
    assert refusals.next_try(uid) is None


async def test_a_checkpoint_that_is_gone_meanwhile_is_no_error() -> None:
    world = World(make_checkpoint())
    await world.kubernetes.delete(make_checkpoint())
    await reconcile_checkpoint(world.kubernetes, world.cluster, make_checkpoint().key)


# -- a DemoInstance -------------------------------------------------------------------------------


def bindable() -> tuple[World, DemoInstance]:
    demo = make_demo()
    known = make_checkpoint(serving=REVISION), make_revision(), make_node_checkpoint("node-a")
    return World(*known, demo), demo


async def test_a_bind_that_is_refused_takes_no_room_and_is_reported() -> None:
    world, demo = bindable()
    world.refuse("PATCH", "demoinstances/status", RefusedError("422 a policy says no"))
    for _ in range(4):
        again = await reconcile_instance(world.kubernetes, world.cluster, demo.key)
        assert again is not None
        assert timedelta() < again <= 1.2 * PAUSES.first
    assert world.kubernetes.find(demo).status.node_name is None
    assert world.cluster.load("node-a") == 0
    assert world.kubernetes.reasons() == ["CannotWriteStatus"]
    world.allow()
    world.wait()
    await reconcile_instance(world.kubernetes, world.cluster, demo.key)
    assert world.kubernetes.find(demo).status.node_name == "node-a"
    assert world.kubernetes.reasons() == ["CannotWriteStatus", "Bound"]


async def test_what_the_api_server_takes_of_a_refusal_is_in_the_condition() -> None:
    world, demo = bindable()

    class Policy(FakeKubernetes):
        """Lets nobody be bound."""

        async def _request(self, *arguments: object, **options: object) -> object:
            body = options.get("body")
            if isinstance(body, dict) and "nodeName" in body.get("status", {}):
                raise RefusedError("422 nodeName is not for you")
            return await super()._request(*arguments, **options)  # type: ignore[arg-type]

    world.kubernetes = Policy()
    world.cluster.instances.update(world.kubernetes.put(demo))
    for _ in range(3):
        await reconcile_instance(world.kubernetes, world.cluster, demo.key)
    status = world.kubernetes.find(demo).status
    ready = find_condition(status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == (UNKNOWN, str(Attempt.STATUS))
    assert "nodeName is not for you" in ready.message
    assert world.kubernetes.reasons() == ["CannotWriteStatus"]
    assert len(world.kubernetes.writes) == 1


async def test_an_instance_whose_namesake_is_there_by_now_is_left_alone() -> None:
    world, demo = bindable()
    namesake = world.kubernetes.put(make_demo(uid="another"))
    await reconcile_instance(world.kubernetes, world.cluster, demo.key)
    assert world.kubernetes.find(namesake) == namesake
    assert world.kubernetes.events == []
