"""What is given away of the nodes, as the controller's views say it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.builders import NOW, add_node, make_agent, make_condition, make_copy, make_instance
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, StartedBy
from tryitnow.api.meta import Key
from tryitnow.controller.cluster import Cluster

SHOP = Key("default", "shop")
SIZE = 300 << 20

READY, STARTING = DemoInstancePhase.READY, DemoInstancePhase.STARTING


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    add_node(cluster, make_agent("node-a", seen=NOW))
    cluster.copies.update(make_copy("node-a", memory_bytes=SIZE))
    return cluster


def ready(seconds_after_report: int, by: StartedBy = StartedBy.RESTORE) -> DemoInstance:
    since = NOW + timedelta(seconds=seconds_after_report)
    return make_instance(node="node-a", phase=READY, ready_at=since, started_by=by)


def waiting(reason: str) -> DemoInstance:
    condition = make_condition("Ready", holds=None, reason=reason)
    return make_instance(node="node-a", phase=STARTING, conditions=(condition,))


@pytest.mark.parametrize(
    ("instance", "promised"),
    [
        (make_instance(node="node-a", phase=STARTING), SIZE),
        (ready(1), SIZE),
        (ready(-1), 0),
        (ready(1, StartedBy.WARM), 0),
        (make_instance(node="node-a", phase=DemoInstancePhase.FAILED), 0),
        (make_instance(node="node-a", phase=STARTING, checkpoint="unknown"), 0),
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
def test_memory_is_promised_until_the_agents_report_knows_of_it(
    cluster: Cluster, instance: DemoInstance, promised: int
) -> None:
    cluster.instances.update(instance)
    usage = cluster.usage(SHOP, ["node-a"])
    assert usage.instances == {"node-a": 1}
    assert usage.reserved_bytes.get("node-a", 0) == promised


def test_those_that_find_a_warm_copy_fill_no_more_memory(cluster: Cluster) -> None:
    cluster.copies.update(make_copy("node-a", memory_bytes=SIZE, warm_ready=2))
    for number in range(3):
        cluster.instances.update(make_instance(f"demo-{number}", node="node-a", phase=STARTING))
    usage = cluster.usage(SHOP, ["node-a"])
    assert usage.claiming == {"node-a": 3}
    assert usage.reserved_bytes == {"node-a": SIZE}


def test_an_instance_that_is_being_bound_counts(cluster: Cluster) -> None:
    instance = cluster.instances.update(make_instance())
    assert cluster.usage(SHOP, ["node-a"]).instances == {"node-a": 0}
    cluster.assume(instance, "node-a")
    usage = cluster.usage(SHOP, ["node-a"])
    assert usage.instances == usage.claiming == {"node-a": 1}
    assert usage.reserved_bytes == {"node-a": SIZE}
    assert cluster.usage(Key("default", "other"), ["node-a"]).claiming == {"node-a": 0}
