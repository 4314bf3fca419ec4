"""What a Checkpoint allows its demos: how many at once, and how long."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.builders import (
    REVISION,
    add_node,
    make_agent,
    make_checkpoint,
    make_demo,
    make_node_checkpoint,
    make_revision,
)
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.checkpoint import Lifetimes, Limits
from tryitnow.api.demoinstance import DemoInstance, DemoInstanceStatus
from tryitnow.api.meta import Condition, ConditionStatus, find_condition, now
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.demoinstance import RESYNC_INTERVAL, reconcile_instance
from tryitnow.controller.handlers import on_demoinstance
from tryitnow.workqueue import WorkQueue

HOUR = timedelta(hours=1)
CREATED = now().replace(microsecond=0)


class World:
    """A node with room for ten demos, and a Checkpoint with limits."""

    def __init__(self, kubernetes: FakeKubernetes) -> None:
        self.kubernetes = kubernetes
        self.cluster = Cluster(listed=True)
        add_node(self.cluster, make_agent("node-a", seen=now(), capacity=10))
        self.cluster.node_checkpoints.update(make_node_checkpoint("node-a"))
        self.cluster.revisions.update(make_revision())

    def limit(self, limits: Limits) -> None:
        checkpoint = make_checkpoint(serving=REVISION)
        spec = checkpoint.spec.model_copy(update={"limits": limits})
        self.cluster.checkpoints.update(checkpoint.model_copy(update={"spec": spec}))

    def ask(self, name: str = "annas-demo", ttl: timedelta | None = None) -> DemoInstance:
        demo = make_demo(name, ttl=ttl, created=CREATED)
        return self.cluster.instances.update(self.kubernetes.put(demo))

    async def reconcile(self, demo: DemoInstance) -> timedelta | None:
        return await reconcile_instance(self.kubernetes, self.cluster, demo.key)

    def status(self, demo: DemoInstance) -> DemoInstanceStatus:
        return self.kubernetes.find(demo).status

    def condition(self, demo: DemoInstance, type_: str) -> Condition:
        found = find_condition(self.status(demo).conditions, type_)
        assert found is not None
        return found


@pytest.fixture
def world(kubernetes: FakeKubernetes) -> World:
    return World(kubernetes)


# -- instances ------------------------------------------------------------------------------------


async def test_one_beyond_the_limit_waits_and_is_told_why(world: World) -> None:
    world.limit(Limits(instances=1))
    first, second = world.ask("first"), world.ask("second")
    await world.reconcile(first)
    assert await world.reconcile(second) == RESYNC_INTERVAL
    assert world.status(first).node_name == "node-a"
    assert world.status(second).node_name is None
    ready = world.condition(second, "Ready")
    assert (ready.status, ready.reason) == (ConditionStatus.UNKNOWN, "LimitReached")
    assert "spec.limits.instances of the Checkpoint shop is 1" in ready.message
    assert "when another ends" in ready.message


async def test_it_is_taken_up_by_itself_when_another_ends(world: World) -> None:
    world.limit(Limits(instances=1))
    first, second = world.ask("first"), world.ask("second")
    await world.reconcile(first)
    await world.reconcile(second)
    queued: list[str] = []

    async def take(key: object) -> None:
        queued.append(str(key))

    queue = WorkQueue("DemoInstance", take, expected=())
    gone: Any = world.kubernetes.find(first).to_api()
    on_demoinstance({"type": "DELETED", "object": gone}, world.cluster, queue, queue)
    await asyncio.sleep(0.01)
    assert str(second.key) in queued
    await world.reconcile(second)
    assert world.status(second).node_name == "node-a"
    await queue.close()


async def test_two_that_are_bound_at_once_do_not_pass_the_limit_together(world: World) -> None:
    world.limit(Limits(instances=1))
    demos = [world.ask(name) for name in ("first", "second", "third")]
    await asyncio.gather(*(world.reconcile(demo) for demo in demos))
    assert [world.status(demo).node_name for demo in demos].count("node-a") == 1


async def test_a_raised_limit_takes_it_up_and_a_lowered_one_ends_nothing(world: World) -> None:
    world.limit(Limits(instances=0))
    demo = world.ask()
    await world.reconcile(demo)
    assert "starts no demos" in world.condition(demo, "Ready").message
    world.limit(Limits(instances=1))
    await world.reconcile(demo)
    assert world.status(demo).node_name == "node-a"
    world.limit(Limits(instances=0))
    await world.reconcile(demo)
    assert world.kubernetes.has(demo)


def test_the_oldest_of_those_that_wait_is_queued_first(world: World) -> None:
    for minutes, name in ((1, "newer"), (5, "oldest"), (3, "older")):
        demo = make_demo(name, created=CREATED - timedelta(minutes=minutes))
        world.cluster.instances.update(world.kubernetes.put(demo))
    waiting = world.cluster.waiting_for(make_checkpoint().key)
    assert [demo.metadata.name for demo in waiting] == ["oldest", "older", "newer"]


# -- ttl ------------------------------------------------------------------------------------------


async def test_without_a_ttl_the_default_counts(world: World) -> None:
    world.limit(Limits(default_ttl=HOUR))
    demo = world.ask()
    await world.reconcile(demo)
    assert world.status(demo).expires_at == CREATED + HOUR
    assert find_condition(world.status(demo).conditions, "TtlShortened") is None


async def test_a_longer_ttl_ends_at_the_longest_and_says_so(world: World) -> None:
    world.limit(Limits(max_ttl=HOUR))
    demo = world.ask(ttl=3 * HOUR)
    await world.reconcile(demo)
    assert world.status(demo).expires_at == CREATED + HOUR
    shortened = world.condition(demo, "TtlShortened")
    assert shortened.status is ConditionStatus.TRUE
    assert "spec.ttl is 3h; spec.limits.maxTtl of the Checkpoint shop is 1h" in shortened.message


async def test_a_ttl_cannot_be_extended_beyond_the_longest(world: World) -> None:
    world.limit(Limits(max_ttl=2 * HOUR))
    demo = world.ask(ttl=HOUR)
    await world.reconcile(demo)
    bound = world.kubernetes.find(demo)
    for ttl, ends, holds in (
        (3 * HOUR, 2 * HOUR, ConditionStatus.TRUE),
        (2 * HOUR, 2 * HOUR, ConditionStatus.FALSE),
    ):
        spec = bound.spec.model_copy(update={"ttl": ttl})
        changed = bound.model_copy(update={"spec": spec, "status": world.status(demo)})
        world.cluster.instances.update(world.kubernetes.put(changed))
        await world.reconcile(demo)
        assert world.status(demo).expires_at == CREATED + ends
        assert world.condition(demo, "TtlShortened").status is holds


async def test_a_bound_demo_keeps_its_lifetimes_whatever_the_checkpoint_says_by_now(
    world: World,
) -> None:
    world.limit(Limits(default_ttl=HOUR))
    demo = world.ask()
    await world.reconcile(demo)
    world.limit(Limits(max_ttl=timedelta(seconds=1)))
    await world.reconcile(demo)
    assert world.status(demo).expires_at == CREATED + HOUR
    world.cluster.checkpoints.forget(make_checkpoint().key)
    await world.reconcile(demo)
    assert world.status(demo).expires_at == CREATED + HOUR


async def test_one_that_waits_beyond_the_limit_expires_as_well(world: World) -> None:
    world.limit(Limits(instances=0, default_ttl=HOUR))
    demo = world.ask()
    await world.reconcile(demo)
    assert world.status(demo).expires_at == CREATED + HOUR
    world.limit(Limits(instances=0, default_ttl=timedelta()))
    await world.reconcile(demo)
    assert not world.kubernetes.has(demo)


@pytest.mark.parametrize(
    ("default", "longest", "asked", "effective"),
    [
        (None, None, None, None),
        (HOUR, None, None, HOUR),
        (None, HOUR, None, HOUR),
        (2 * HOUR, HOUR, None, HOUR),
        (HOUR, 2 * HOUR, 3 * HOUR, 2 * HOUR),
        (HOUR, None, 3 * HOUR, 3 * HOUR),
    ],
)
def test_what_was_asked_for_counts_then_the_default_and_never_more_than_the_longest(
    default: timedelta | None,
    longest: timedelta | None,
    asked: timedelta | None,
    effective: timedelta | None,
) -> None:
    assert Lifetimes(default_ttl=default, max_ttl=longest).effective(asked) == effective
