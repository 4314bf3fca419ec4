"""What is given away of the nodes, as the controller's views say it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.builders import (
    NOW,
    REVISION,
    add_node,
    make_agent,
    make_archive,
    make_condition,
    make_demo,
    make_node_checkpoint,
)
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, StartedBy
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpointPhase
from tryitnow.controller.cluster import Cluster

SHOP = Key("default", "shop")
SIZE = 300 << 20

READY, STARTING = DemoInstancePhase.READY, DemoInstancePhase.STARTING


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    add_node(cluster, make_agent("node-a", seen=NOW))
    cluster.node_checkpoints.update(make_node_checkpoint("node-a", memory_bytes=SIZE))
    return cluster


def ready(seconds_after_report: int, by: StartedBy = StartedBy.RESTORE) -> DemoInstance:
    since = NOW + timedelta(seconds=seconds_after_report)
    return make_demo(node="node-a", phase=READY, ready_at=since, started_by=by)


def waiting(reason: str) -> DemoInstance:
    condition = make_condition("Ready", holds=None, reason=reason)
    return make_demo(node="node-a", phase=STARTING, conditions=(condition,))


@pytest.mark.parametrize(
    ("instance", "promised"),
    [
        (make_demo(node="node-a", phase=STARTING), SIZE),
        (ready(1), SIZE),
        (ready(-1), 0),
        (ready(1, StartedBy.WARM), 0),
        (make_demo(node="node-a", phase=DemoInstancePhase.FAILED), 0),
        (make_demo(node="node-a", phase=STARTING, checkpoint="unknown"), 0),
        (waiting("SourceMissing"), 0),
        (waiting("Bound"), SIZE),
    ],
    ids=[
        "starting",
        "just ready",
        "ready for long",
        "was warm",
        "failed",
        "of unknown size",
        "waits for a Secret",
        "was just bound",
    ],
)
def test_memory_is_reserved_until_the_agents_report_knows_of_it(
    cluster: Cluster, instance: DemoInstance, promised: int
) -> None:
    cluster.instances.update(instance)
    usage = cluster.usage(SHOP, ["node-a"])
    assert usage.instances == {"node-a": 1}
    assert usage.reserved_bytes.get("node-a", 0) == promised


def test_those_that_find_a_warm_sandbox_fill_no_more_memory(cluster: Cluster) -> None:
    cluster.node_checkpoints.update(make_node_checkpoint("node-a", memory_bytes=SIZE, warm_ready=2))
    for number in range(3):
        cluster.instances.update(make_demo(f"demo-{number}", node="node-a", phase=STARTING))
    usage = cluster.usage(SHOP, ["node-a"])
    assert usage.claiming == {"node-a": 3}
    assert usage.reserved_bytes == {"node-a": SIZE}
    assert usage.warm_bytes == {"node-a": 0}


def test_warm_sandboxes_that_nobody_is_about_to_claim_give_way(cluster: Cluster) -> None:
    cluster.node_checkpoints.update(make_node_checkpoint("node-a", memory_bytes=SIZE, warm_ready=3))
    cluster.instances.update(make_demo("claims", node="node-a", phase=STARTING))
    for asking in (SHOP, Key("default", "other")):
        assert cluster.usage(asking, ["node-a"]).warm_bytes == {"node-a": 2 * SIZE}


def test_an_instance_that_is_being_bound_counts(cluster: Cluster) -> None:
    instance = cluster.instances.update(make_demo())
    assert cluster.usage(SHOP, ["node-a"]).instances == {"node-a": 0}
    cluster.assume(instance, "node-a", REVISION)
    usage = cluster.usage(SHOP, ["node-a"])
    assert usage.instances == usage.claiming == {"node-a": 1}
    assert usage.reserved_bytes == {"node-a": SIZE}
    assert cluster.usage(Key("default", "other"), ["node-a"]).claiming == {"node-a": 0}
    assert cluster.usage(SHOP, ["node-a"]).of_namespace == usage.instances
    assert cluster.usage(Key("other", "shop"), ["node-a"]).of_namespace == {"node-a": 0}


# -- what an agent's report does not know of yet --------------------------------------------------


def reserved(cluster: Cluster) -> int:
    return cluster.usage(SHOP, ["node-a"]).reserved_bytes["node-a"]


def heartbeat(cluster: Cluster, seconds_after_report: int) -> None:
    seen = NOW + timedelta(seconds=seconds_after_report)
    cluster.agents.update(make_agent("node-a", seen=seen))


def test_the_next_report_knows_of_what_ran_before_it(cluster: Cluster) -> None:
    cluster.instances.update(ready(1))
    assert reserved(cluster) == SIZE
    heartbeat(cluster, 10)
    assert reserved(cluster) == 0


def test_a_nodes_clock_that_was_set_back_reserves_memory_for_no_hour(cluster: Cluster) -> None:
    cluster.instances.update(ready(1))
    heartbeat(cluster, -3600)
    assert reserved(cluster) == SIZE
    heartbeat(cluster, -3590)
    assert reserved(cluster) == 0, "after two reports it surely knows"


def test_what_changes_later_on_is_no_news_to_the_report(cluster: Cluster) -> None:
    demo = cluster.instances.update(ready(1))
    heartbeat(cluster, 10)
    assert reserved(cluster) == 0
    status = demo.status.model_copy(update={"url": "http://another/"})
    cluster.instances.update(demo.model_copy(update={"status": status}))
    assert reserved(cluster) == 0


def test_one_that_is_gone_fills_nothing(cluster: Cluster) -> None:
    demo = cluster.instances.update(ready(1))
    assert reserved(cluster) == SIZE
    cluster.instances.forget(demo.key)
    assert reserved(cluster) == 0
    assert cluster.load("node-a") == 0


def test_one_that_was_started_again_fills_memory_anew(cluster: Cluster) -> None:
    cluster.instances.update(ready(1))
    heartbeat(cluster, 10)
    assert reserved(cluster) == 0
    cluster.instances.update(make_demo(node="node-a", phase=STARTING))
    assert reserved(cluster) == SIZE
    cluster.instances.update(ready(15))
    assert reserved(cluster) == SIZE
    heartbeat(cluster, 20)
    assert reserved(cluster) == 0


# -- disk -----------------------------------------------------------------------------------------


def test_what_is_being_fetched_or_started_takes_disk_already(cluster: Cluster) -> None:
    cluster.node_checkpoints.update(make_node_checkpoint("node-a", memory_bytes=SIZE, disk_bytes=7))
    archive = make_archive(size_bytes=1000)
    fetching = make_node_checkpoint(
        "node-a",
        checkpoint="blog",
        phase=NodeCheckpointPhase.FETCHING,
        fetch=Fetch(archive=archive),
    )
    cluster.node_checkpoints.update(fetching)
    cluster.instances.update(make_demo(node="node-a", phase=STARTING))
    [state] = cluster.node_states()
    assert state.reserved_disk_bytes == 1007
    cluster.node_checkpoints.forget(fetching.key)
    cluster.instances.update(ready(1))
    [state] = cluster.node_states()
    assert state.reserved_disk_bytes == 7, "its agent has not reported since"
    heartbeat(cluster, 10)
    [state] = cluster.node_states()
    assert state.reserved_disk_bytes == 0
