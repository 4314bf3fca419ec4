"""Nodes that fell silent or are gone: nothing waits for them for ever."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.builders import (
    NOW,
    make_agent,
    make_condition,
    make_copy,
    make_instance,
    make_silent_agent,
    report,
)
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import ConditionStatus, Resource, find_condition
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.lost import is_lost, sweep
from tryitnow.kubernetes.errors import KubernetesError, RefusedError

Phase = DemoInstancePhase


def make_cluster(kubernetes: FakeKubernetes, *resources: Resource) -> Cluster:
    """Two nodes, of which node-b is silent, and these objects."""
    cluster = Cluster(node_labels={"node-a": {}, "node-b": {}}, listed=True)
    report(cluster, make_agent("node-a"), make_silent_agent("node-b"))
    for resource in resources:
        known = kubernetes.put(resource)
        if isinstance(known, DemoInstance):
            cluster.instances.update(known)
        elif isinstance(known, NodeCheckpoint):
            cluster.copies.update(known)
    return cluster


def test_a_node_is_lost_when_nobody_there_can_act(kubernetes: FakeKubernetes) -> None:
    cluster = make_cluster(kubernetes)
    assert not is_lost(cluster, "node-a", NOW)
    assert is_lost(cluster, "node-b", NOW), "its agent is silent"
    assert is_lost(cluster, "node-c", NOW), "it has no agent"
    del cluster.node_labels["node-a"]
    assert is_lost(cluster, "node-a", NOW), "it was removed; its agent's last word may be fresh"


async def test_what_is_deleted_does_not_wait_for_a_lost_node(kubernetes: FakeKubernetes) -> None:
    instance = make_instance(node="node-b", deleting=True, finalizer=True)
    copy = make_copy("node-b", deleting=True)
    cluster = make_cluster(kubernetes, instance, copy)
    await sweep(kubernetes, cluster, NOW)
    assert not kubernetes.has(instance)
    assert not kubernetes.has(copy)
    assert kubernetes.reasons() == ["NodeLost", "NodeLost"]


async def test_what_is_deleted_waits_for_a_living_node(kubernetes: FakeKubernetes) -> None:
    instance = make_instance(node="node-a", deleting=True, finalizer=True)
    copy = make_copy("node-a", deleting=True)
    cluster = make_cluster(kubernetes, instance, copy)
    await sweep(kubernetes, cluster, NOW)
    assert kubernetes.has(instance)
    assert kubernetes.has(copy)
    assert kubernetes.events == []


async def test_copies_on_a_silent_node_stay_unless_they_are_deleted(
    kubernetes: FakeKubernetes,
) -> None:
    copy = make_copy("node-b")
    await sweep(kubernetes, make_cluster(kubernetes, copy), NOW)
    assert kubernetes.find(copy).has_finalizer


async def test_a_demo_on_a_lost_node_is_said_to_be_cut_off(kubernetes: FakeKubernetes) -> None:
    demo = make_instance(
        node="node-b", phase=Phase.READY, conditions=(make_condition("Ready"),), url="http://b/"
    )
    await sweep(kubernetes, make_cluster(kubernetes, demo), NOW)
    status = kubernetes.find(demo).status
    ready = find_condition(status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == (ConditionStatus.UNKNOWN, "NodeLost")
    assert "node-b is silent" in ready.message
    assert (status.phase, status.url) == (Phase.READY, "http://b/"), "the agent's own fields stay"


async def test_it_is_said_once(kubernetes: FakeKubernetes) -> None:
    cluster = make_cluster(kubernetes, make_instance(node="node-b", phase=Phase.READY))
    for _ in range(3):
        await sweep(kubernetes, cluster, NOW)
    assert kubernetes.reasons() == ["NodeLost"]
    assert len(kubernetes.writes) == 1


@pytest.mark.parametrize(
    "instance",
    [
        make_instance(node="node-a", phase=Phase.READY),
        make_instance(node="node-b", phase=Phase.FAILED),
        make_instance(node=None),
    ],
    ids=["on a living node", "given up before", "not bound"],
)
async def test_about_others_nothing_is_said(
    kubernetes: FakeKubernetes, instance: DemoInstance
) -> None:
    await sweep(kubernetes, make_cluster(kubernetes, instance), NOW)
    assert kubernetes.writes == []
    assert kubernetes.events == []


async def test_what_somebody_changes_meanwhile_is_let_go_in_the_next_sweep(
    kubernetes: FakeKubernetes,
) -> None:
    instance = make_instance(node="node-b", deleting=True, finalizer=True)
    cluster = make_cluster(kubernetes, instance)
    changed = kubernetes.put(instance)
    await sweep(kubernetes, cluster, NOW)
    assert kubernetes.has(instance)
    cluster.instances.update(changed)
    await sweep(kubernetes, cluster, NOW)
    assert not kubernetes.has(instance)


async def test_a_demo_that_is_gone_meanwhile_is_no_error(kubernetes: FakeKubernetes) -> None:
    demo = make_instance(node="node-b", phase=Phase.READY)
    cluster = make_cluster(kubernetes, demo)
    await kubernetes.delete(demo)
    await sweep(kubernetes, cluster, NOW)
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
    strange = make_instance("a-strange-one", node="node-b", phase=Phase.READY)
    deleted = make_instance("deleted", node="node-b", deleting=True, finalizer=True)
    kubernetes.refused = strange.metadata.name
    await sweep(kubernetes, make_cluster(kubernetes, strange, deleted), NOW)
    assert not kubernetes.has(deleted)


async def test_an_api_server_that_is_away_ends_the_sweep(kubernetes: FakeKubernetes) -> None:
    cluster = make_cluster(kubernetes, make_instance(node="node-b", phase=Phase.READY))
    kubernetes.is_down = True
    with pytest.raises(KubernetesError):
        await sweep(kubernetes, cluster, NOW)
