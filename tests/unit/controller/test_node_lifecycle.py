"""Nodes that fell silent or are gone: nothing waits for them for ever."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.builders import (
    Clock,
    add_node,
    make_agent,
    make_condition,
    make_demo,
    make_node,
    make_node_checkpoint,
)
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import ConditionStatus, Key, Resource, find_condition, now
from tryitnow.api.nodeagent import LOST_AFTER
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.agents import AgentStore
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.node_lifecycle import release_lost_nodes
from tryitnow.kubernetes.errors import KubernetesError, RefusedError

Phase = DemoInstancePhase


CLOCK = Clock()


def make_cluster(kubernetes: FakeKubernetes, *resources: Resource) -> Cluster:
    """Two nodes, of which node-b is silent, and these objects."""
    cluster = Cluster(agents=AgentStore(CLOCK), listed=True)
    add_node(cluster, make_agent("node-b"))
    CLOCK.seconds += LOST_AFTER.total_seconds() + 1
    add_node(cluster, make_agent("node-a"))
    for resource in resources:
        known = kubernetes.put(resource)
        if isinstance(known, DemoInstance):
            cluster.instances.update(known)
        elif isinstance(known, NodeCheckpoint):
            cluster.node_checkpoints.update(known)
    return cluster


def test_a_node_is_lost_when_nobody_there_can_act(kubernetes: FakeKubernetes) -> None:
    cluster = make_cluster(kubernetes)
    assert not cluster.is_lost("node-a")
    assert cluster.is_lost("node-b"), "its agent is silent"
    add_node(cluster, "node-c")
    assert cluster.is_lost("node-c"), "it has no agent"
    cluster.nodes.forget(Key("", "node-a"))
    assert cluster.is_lost("node-a"), "it was removed; its agent's last word may be fresh"


def test_a_node_that_cannot_be_read_has_not_left_the_cluster(kubernetes: FakeKubernetes) -> None:
    cluster = make_cluster(kubernetes)
    body = make_node("node-a").model_copy().to_api()
    cluster.nodes.ingest({**body, "spec": {"taints": "of another version"}})
    assert not cluster.is_lost("node-a")
    assert "node-a" in cluster.architectures()


async def test_what_is_deleted_does_not_wait_for_a_lost_node(kubernetes: FakeKubernetes) -> None:
    instance = make_demo(node="node-b", deleting=True, finalizer=True)
    node_checkpoint = make_node_checkpoint("node-b", deleting=True)
    cluster = make_cluster(kubernetes, instance, node_checkpoint)
    await release_lost_nodes(kubernetes, cluster)
    assert not kubernetes.has(instance)
    assert not kubernetes.has(node_checkpoint)
    assert kubernetes.reasons() == ["NodeLost", "NodeLost"]


async def test_what_is_deleted_waits_for_a_living_node(kubernetes: FakeKubernetes) -> None:
    instance = make_demo(node="node-a", deleting=True, finalizer=True)
    node_checkpoint = make_node_checkpoint("node-a", deleting=True)
    cluster = make_cluster(kubernetes, instance, node_checkpoint)
    await release_lost_nodes(kubernetes, cluster)
    assert kubernetes.has(instance)
    assert kubernetes.has(node_checkpoint)
    assert kubernetes.events == []


async def test_node_checkpoints_on_a_silent_node_stay_unless_they_are_deleted(
    kubernetes: FakeKubernetes,
) -> None:
    node_checkpoint = make_node_checkpoint("node-b")
    await release_lost_nodes(kubernetes, make_cluster(kubernetes, node_checkpoint))
    assert kubernetes.find(node_checkpoint).has_finalizer


async def test_a_demo_on_a_lost_node_is_reported_to_be_cut_off(kubernetes: FakeKubernetes) -> None:
    demo = make_demo(
        node="node-b", phase=Phase.READY, conditions=(make_condition("Ready"),), url="http://b/"
    )
    await release_lost_nodes(kubernetes, make_cluster(kubernetes, demo))
    status = kubernetes.find(demo).status
    ready = find_condition(status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == (ConditionStatus.UNKNOWN, "NodeLost")
    assert "node-b is silent" in ready.message
    assert (status.phase, status.url) == (Phase.READY, "http://b/"), "the agent's own fields stay"


async def test_it_is_reported_once(kubernetes: FakeKubernetes) -> None:
    cluster = make_cluster(kubernetes, make_demo(node="node-b", phase=Phase.READY))
    for _ in range(3):
        await release_lost_nodes(kubernetes, cluster)
    assert kubernetes.reasons() == ["NodeLost"]
    assert len(kubernetes.writes) == 1


@pytest.mark.parametrize(
    "instance",
    [
        make_demo(node="node-a", phase=Phase.READY),
        make_demo(node="node-b", phase=Phase.FAILED),
        make_demo(node=None),
    ],
    ids=["on a living node", "given up before", "not bound"],
)
async def test_about_others_nothing_is_reported(
    kubernetes: FakeKubernetes, instance: DemoInstance
) -> None:
    await release_lost_nodes(kubernetes, make_cluster(kubernetes, instance))
    assert kubernetes.writes == []
    assert kubernetes.events == []


async def test_what_somebody_changes_meanwhile_is_let_go_in_the_next_sweep(
    kubernetes: FakeKubernetes,
) -> None:
    instance = make_demo(node="node-b", deleting=True, finalizer=True)
    cluster = make_cluster(kubernetes, instance)
    changed = kubernetes.put(instance)
    await release_lost_nodes(kubernetes, cluster)
    assert kubernetes.has(instance)
    cluster.instances.update(changed)
    await release_lost_nodes(kubernetes, cluster)
    assert not kubernetes.has(instance)


async def test_a_demo_that_is_gone_meanwhile_is_no_error(kubernetes: FakeKubernetes) -> None:
    demo = make_demo(node="node-b", phase=Phase.READY)
    cluster = make_cluster(kubernetes, demo)
    await kubernetes.delete(demo)
    await release_lost_nodes(kubernetes, cluster)
    assert kubernetes.events == []


class Refusing(FakeKubernetes):
    """Will not take any change of one object."""

    refused = ""

    async def patch_status(self, before: Any, status: dict[str, Any], **options: Any) -> Any:
        if before.metadata.name == self.refused:
            msg = f"{before.key}: 422 it is invalid"
            raise RefusedError(msg)
        return await super().patch_status(before, status, **options)


async def test_one_object_that_is_refused_does_not_keep_the_others_waiting() -> None:
    kubernetes = Refusing()
    strange = make_demo("a-strange-one", node="node-b", phase=Phase.READY)
    deleted = make_demo("deleted", node="node-b", deleting=True, finalizer=True)
    kubernetes.refused = strange.metadata.name
    await release_lost_nodes(kubernetes, make_cluster(kubernetes, strange, deleted))
    assert not kubernetes.has(deleted)


async def test_an_api_server_that_is_away_ends_the_sweep(kubernetes: FakeKubernetes) -> None:
    cluster = make_cluster(kubernetes, make_demo(node="node-b", phase=Phase.READY))
    kubernetes.is_down = True
    with pytest.raises(KubernetesError):
        await release_lost_nodes(kubernetes, cluster)


async def test_a_step_of_the_wall_clock_loses_no_node(
    kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent was heard of two seconds before somebody set the clock a minute ahead."""
    demo = make_demo(node="node-a", phase=Phase.READY, deleting=False)
    going = make_demo("going", node="node-a", deleting=True, finalizer=True)
    cluster = make_cluster(kubernetes, demo, going)
    await release_lost_nodes(kubernetes, cluster)
    CLOCK.seconds += 2
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 60)
    await release_lost_nodes(kubernetes, cluster)
    assert kubernetes.events == []
    assert kubernetes.find(going).has_finalizer


async def test_what_cannot_be_read_is_let_go_of_on_a_lost_node_as_well(
    kubernetes: FakeKubernetes,
) -> None:
    cluster = make_cluster(kubernetes)
    strange = []
    for resource in (
        make_demo("a", node="node-b", deleting=True, finalizer=True),
        make_node_checkpoint("node-b", deleting=True),
    ):
        body = resource.to_api()
        body["spec"] = {"nodeName": "node-b", "of": "a newer version"}
        kubernetes.put_body(type(resource), body)
        store: Any = (
            cluster.instances if isinstance(resource, DemoInstance) else cluster.node_checkpoints
        )
        store.ingest(body)
        strange.append(resource)
    on_a_living_node = make_node_checkpoint("node-a", deleting=True, checkpoint="other")
    body = {**on_a_living_node.to_api(), "spec": {"nodeName": "node-a"}}
    kubernetes.put_body(NodeCheckpoint, body)
    cluster.node_checkpoints.ingest(body)
    await release_lost_nodes(kubernetes, cluster)
    assert [kubernetes.has(resource) for resource in strange] == [False, False]
    assert kubernetes.has(on_a_living_node), "its agent lets it go"
    assert kubernetes.reasons() == ["NodeLost", "NodeLost"]


async def test_a_finalizer_that_may_not_be_removed_is_reported_once(
    kubernetes: FakeKubernetes,
) -> None:
    cluster = make_cluster(kubernetes, make_demo(node="node-b", deleting=True, finalizer=True))
    kubernetes.refusals["PATCH", "demoinstances"] = RefusedError("a policy says no")
    for _ in range(3):
        await release_lost_nodes(kubernetes, cluster)
    assert kubernetes.reasons() == ["CannotRemoveFinalizer"]


async def test_what_is_refused_on_one_lost_node_is_reported_once(
    kubernetes: FakeKubernetes,
) -> None:
    cluster = make_cluster(kubernetes, make_demo(node="node-b", phase=Phase.READY))
    kubernetes.refusals["PATCH", "demoinstances/status"] = RefusedError("a policy says no")
    for _ in range(3):
        await release_lost_nodes(kubernetes, cluster)
    assert kubernetes.reasons() == ["CannotWriteStatus"]


# -- lost for too long ----------------------------------------------------------------------------

HOUR = timedelta(hours=1)


async def test_demos_of_a_node_that_is_lost_for_too_long_end(kubernetes: FakeKubernetes) -> None:
    there = make_demo("there", node="node-b", phase=Phase.READY, finalizer=True)
    here = make_demo("here", node="node-a", phase=Phase.READY, finalizer=True)
    cluster = make_cluster(kubernetes, there, here)
    cluster.end_lost_after = HOUR
    await release_lost_nodes(kubernetes, cluster)
    CLOCK.seconds += HOUR.total_seconds() - 1
    add_node(cluster, make_agent("node-a", seen=now()))
    await release_lost_nodes(kubernetes, cluster)
    assert not kubernetes.find(there).is_deleting
    CLOCK.seconds += 1
    for _ in range(2):
        await release_lost_nodes(kubernetes, cluster)
        if kubernetes.has(there):
            cluster.instances.update(kubernetes.find(there))
    assert not kubernetes.has(there), "its finalizer is gone as well"
    assert kubernetes.has(here)
    assert "EndedOnLostNode" in kubernetes.reasons()


async def test_an_agent_that_is_back_ends_the_count(kubernetes: FakeKubernetes) -> None:
    demo = make_demo(node="node-b", phase=Phase.READY, finalizer=True)
    cluster = make_cluster(kubernetes, demo)
    cluster.end_lost_after = HOUR
    await release_lost_nodes(kubernetes, cluster)
    CLOCK.seconds += HOUR.total_seconds() / 2
    cluster.agents.update(make_agent("node-b", seen=now()))
    await release_lost_nodes(kubernetes, cluster)
    CLOCK.seconds += LOST_AFTER.total_seconds() + 1
    await release_lost_nodes(kubernetes, cluster)
    CLOCK.seconds += HOUR.total_seconds() - 60
    await release_lost_nodes(kubernetes, cluster)
    assert not kubernetes.find(demo).is_deleting


async def test_without_the_administrators_wish_no_demo_ends(kubernetes: FakeKubernetes) -> None:
    demo = make_demo(node="node-b", phase=Phase.READY, finalizer=True)
    cluster = make_cluster(kubernetes, demo)
    await release_lost_nodes(kubernetes, cluster)
    CLOCK.seconds += 1000 * HOUR.total_seconds()
    await release_lost_nodes(kubernetes, cluster)
    assert not kubernetes.find(demo).is_deleting
