"""What the controller tells about checkpoints, instances and nodes."""

from __future__ import annotations

from datetime import timedelta

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
from tests.unit.metrics.scrape import Scrape, scrape
from tryitnow.api.checkpoint import CheckpointPhase, CheckpointStatus, Pool
from tryitnow.api.demoinstance import DemoInstancePhase
from tryitnow.api.nodeagent import LOST_AFTER, Check, Verdict
from tryitnow.api.nodecheckpoint import NodeCheckpointPhase
from tryitnow.controller.agents import AgentStore
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.demoinstance import reconcile_instance
from tryitnow.controller.gauges import gauges

CLOCK = Clock()
SHOP = {"namespace": "default", "checkpoint": "shop"}


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(agents=AgentStore(CLOCK), listed=True)
    cluster.metrics.read_from(lambda: gauges(cluster, NOW))
    return cluster


def scraped(cluster: Cluster) -> Scrape:
    return scrape(cluster.metrics)


def test_half_of_a_cluster_is_not_told(cluster: Cluster) -> None:
    cluster.checkpoints.update(make_checkpoint())
    cluster.listed = False
    assert not scraped(cluster).all("tryitnow_checkpoint_phase")


def test_a_checkpoint_is_in_one_phase(cluster: Cluster) -> None:
    status = CheckpointStatus(
        phase=CheckpointPhase.DISTRIBUTING, nodes_ready=1, nodes_desired=2, warm_ready=3,
        current_revision=REVISION, archive=make_archive(b"12345"), build_attempts=1,
    )  # fmt: skip
    checkpoint = make_checkpoint(status=status)
    spec = checkpoint.spec.model_copy(update={"pool": Pool(warm=4)})
    cluster.checkpoints.update(checkpoint.model_copy(update={"spec": spec}))
    found = scraped(cluster)
    assert found.value("tryitnow_checkpoint_phase", **SHOP, phase="Distributing") == 1
    assert sum(found.all("tryitnow_checkpoint_phase", **SHOP).values()) == 1
    assert found.value("tryitnow_checkpoint_nodes_ready", **SHOP) == 1
    assert found.value("tryitnow_checkpoint_nodes_desired", **SHOP) == 2
    assert found.value("tryitnow_checkpoint_pool_ready", **SHOP) == 3
    assert found.value("tryitnow_checkpoint_pool_desired", **SHOP) == 4
    assert found.value("tryitnow_checkpoint_archive_bytes", **SHOP) == 5
    assert found.value("tryitnow_checkpoint_failed_builds", **SHOP) == 1


def test_node_checkpoints_are_counted_by_phase(cluster: Cluster) -> None:
    cluster.checkpoints.update(make_checkpoint())
    cluster.node_checkpoints.update(make_node_checkpoint("node-a"))
    cluster.node_checkpoints.update(
        make_node_checkpoint("node-b", phase=NodeCheckpointPhase.QUARANTINED)
    )
    found = scraped(cluster)
    assert found.value("tryitnow_node_checkpoints", **SHOP, phase="Ready") == 1
    assert found.value("tryitnow_node_checkpoints", **SHOP, phase="Quarantined") == 1
    assert found.value("tryitnow_node_checkpoints", **SHOP, phase="Failed") == 0


def test_instances_are_counted_by_phase_and_the_one_that_waits_longest_is_reported(
    cluster: Cluster,
) -> None:
    cluster.checkpoints.update(make_checkpoint())
    for name, minutes, phase in (
        ("a", 9, DemoInstancePhase.READY),
        ("b", 3, DemoInstancePhase.PENDING),
        ("c", 5, DemoInstancePhase.STARTING),
    ):
        created = NOW - timedelta(minutes=minutes)
        cluster.instances.update(make_demo(name, created=created, phase=phase))
    cluster.instances.update(make_demo("d", deleting=True))
    found = scraped(cluster)
    assert found.value("tryitnow_instances", **SHOP, phase="Ready") == 1
    assert found.value("tryitnow_instances", **SHOP, phase="Terminating") == 1
    assert sum(found.all("tryitnow_instances").values()) == 4
    assert found.value("tryitnow_oldest_waiting_instance_age_seconds", **SHOP) == 300


def test_a_demo_that_was_reset_waits_since_then(cluster: Cluster) -> None:
    not_ready = make_condition("Ready", holds=False, at=NOW - timedelta(minutes=1))
    instance = make_demo(
        created=NOW - timedelta(days=1), phase=DemoInstancePhase.STARTING,
        ready_at=NOW - timedelta(hours=23), conditions=(not_ready,),
    )  # fmt: skip
    cluster.instances.update(instance)
    found = scraped(cluster)
    assert found.value("tryitnow_oldest_waiting_instance_age_seconds", **SHOP) == 60


def test_a_checkpoint_without_instances_has_nobody_waiting(cluster: Cluster) -> None:
    cluster.checkpoints.update(make_checkpoint())
    found = scraped(cluster)
    assert found.value("tryitnow_oldest_waiting_instance_age_seconds", **SHOP) == 0
    assert found.value("tryitnow_instances", **SHOP, phase="Ready") == 0


def test_an_instance_of_a_checkpoint_that_is_not_there_is_reported_as_well(
    cluster: Cluster,
) -> None:
    cluster.instances.update(make_demo(checkpoint="shpo"))
    found = scraped(cluster)
    assert found.value("tryitnow_instances", checkpoint="shpo", phase="Pending") == 1


def test_a_silent_node_is_down_and_its_last_words_stay(cluster: Cluster) -> None:
    broken = Check(name="CRIU", verdict=Verdict.FAIL, found="not there")
    agent = make_agent("node-b")
    status = agent.status.model_copy(update={"checks": (broken,)})
    add_node(cluster, agent.model_copy(update={"status": status}))
    CLOCK.seconds += LOST_AFTER.total_seconds() + 1
    add_node(cluster, make_agent("node-a"))
    cluster.instances.update(make_demo(node="node-a"))
    found = scraped(cluster)
    for name in ("agent_up", "ready", "can_restore"):
        assert found.value(f"tryitnow_node_{name}", node="node-a") == 1
        assert found.value(f"tryitnow_node_{name}", node="node-b") == 0
    assert found.value("tryitnow_node_instances", node="node-a") == 1
    assert found.value("tryitnow_node_instances_limit", node="node-a") == 10
    assert found.value("tryitnow_node_memory_available_bytes", node="node-a") == 8 << 30
    check = {"node": "node-b", "check": "CRIU"}
    assert found.value("tryitnow_node_doctor_check", **check, verdict="Fail") == 1
    assert found.value("tryitnow_node_doctor_check", **check, verdict="Pass") == 0


async def test_a_node_that_is_found_is_timed_and_one_that_is_not_is_counted(
    cluster: Cluster, kubernetes: FakeKubernetes
) -> None:
    instance = cluster.instances.update(kubernetes.put(make_demo()))
    await reconcile_instance(kubernetes, cluster, instance.key)
    found = scraped(cluster)
    assert found.value("tryitnow_bind_refusals_total", reason="CheckpointNotFound") == 1
    assert found.value("tryitnow_bind_duration_seconds_count") == 0


async def test_an_instance_whose_time_has_come_is_counted(
    cluster: Cluster, kubernetes: FakeKubernetes
) -> None:
    instance = make_demo(ttl=timedelta(seconds=1), created=NOW - timedelta(days=400))
    instance = cluster.instances.update(kubernetes.put(instance))
    await reconcile_instance(kubernetes, cluster, instance.key)
    assert scraped(cluster).value("tryitnow_instances_expired_total") == 1
