"""What an event costs does not grow with the number of demos: work is counted, not timed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.unit.builders import (
    NOW,
    REVISION,
    add_node,
    make_agent,
    make_checkpoint,
    make_demo,
    make_node_checkpoint,
    make_revision,
)
from tests.unit.fakes import FakeKubernetes
from tests.unit.kubernetes.test_watching import RecordingQueue
from tryitnow.api.demoinstance import DemoInstancePhase, StartedBy
from tryitnow.api.meta import CHECKPOINT_LABEL, Key, now
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.demoinstance import reconcile_instance
from tryitnow.controller.handlers import on_demoinstance, on_nodecheckpoint
from tryitnow.controller.node_lifecycle import release_lost_nodes
from tryitnow.controller.revision_lifecycle import release_revisions

SHOP = make_checkpoint().key
NODES = ("node-a", "node-b")


def make_cluster(kubernetes: FakeKubernetes, demos: int) -> Cluster:
    """Two nodes that run so many demos, and one demo that waits for a node."""
    cluster = Cluster(listed=True)
    for node in NODES:
        add_node(cluster, make_agent(node, seen=now(), capacity=10_000_000))
        cluster.node_checkpoints.update(make_node_checkpoint(node, memory_bytes=1 << 20))
    cluster.checkpoints.update(make_checkpoint(serving=REVISION))
    cluster.revisions.update(make_revision())
    for number in range(demos):
        cluster.instances.update(
            make_demo(
                f"demo-{number}",
                node=NODES[number % 2],
                revision=REVISION,
                phase=DemoInstancePhase.READY,
                ready_at=NOW,
                started_by=StartedBy.RESTORE,
            )
        )
    cluster.instances.update(kubernetes.put(make_demo("waiting")))
    for node in NODES:
        # What runs for long is known to the agent; the first look finds that out.
        cluster.agents.update(make_agent(node, seen=now()))
    cluster.usage(SHOP, NODES)
    return cluster


class Work:
    """Counts the lines of Python that run."""

    def __init__(self) -> None:
        self.lines = 0

    def __enter__(self) -> Work:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, _frame: FrameType, event: str, _argument: Any) -> Callable[..., Any]:
        if event == "line":
            self.lines += 1
        return self._trace


def event_of_a_node_checkpoint(version: int, memory_bytes: int) -> Any:
    body = make_node_checkpoint("node-a", memory_bytes=memory_bytes).to_api()
    body["metadata"]["resourceVersion"] = str(version)
    return {"type": "MODIFIED", "object": body}


def work_of_a_nodecheckpoint_event(cluster: Cluster) -> int:
    with Work() as work:
        on_nodecheckpoint(
            event_of_a_node_checkpoint(7, 2 << 20), cluster, RecordingQueue(), RecordingQueue()
        )
    return work.lines


@pytest.mark.parametrize(
    "what", ["bind", "node checkpoint", "lost nodes", "revisions", "end of a demo"]
)
async def test_an_event_costs_the_same_with_ten_times_the_demos(what: str) -> None:
    found = []
    for demos in (100, 1000):
        kubernetes = FakeKubernetes()
        cluster = make_cluster(kubernetes, demos)
        if what == "node checkpoint":
            found.append(work_of_a_nodecheckpoint_event(cluster))
            continue
        with Work() as work:
            if what == "revisions":
                await release_revisions(kubernetes, cluster, SHOP)
            elif what == "end of a demo":
                gone: Any = {"type": "DELETED", "object": make_demo("demo-1").to_api()}
                on_demoinstance(gone, cluster, RecordingQueue(), RecordingQueue())
            elif what == "bind":
                await reconcile_instance(kubernetes, cluster, Key("default", "waiting"))
            else:
                await release_lost_nodes(kubernetes, cluster)
        found.append(work.lines)
    few, many = found
    assert few > 10, "something was counted"
    assert many <= few * 1.05


async def test_a_nodecheckpoint_queues_those_who_wait_only_when_it_offers_something_else() -> None:
    cluster = make_cluster(FakeKubernetes(), 50)
    checkpoints, instances = RecordingQueue(), RecordingQueue()
    on_nodecheckpoint(event_of_a_node_checkpoint(7, 1 << 20), cluster, checkpoints, instances)
    assert checkpoints.asked == [("add", SHOP)]
    assert instances.asked == []
    on_nodecheckpoint(event_of_a_node_checkpoint(8, 2 << 20), cluster, checkpoints, instances)
    assert instances.asked == [("add", Key("default", "waiting"))]


async def test_a_nodecheckpoint_that_cannot_be_read_concerns_its_checkpoint_as_well() -> None:
    cluster = make_cluster(FakeKubernetes(), 0)
    checkpoints = RecordingQueue()
    event = event_of_a_node_checkpoint(7, 1)
    event["object"]["spec"] = {}
    event["object"]["metadata"]["labels"] = {CHECKPOINT_LABEL: "blog"}
    event["object"]["metadata"]["name"] = "blog.1.node-a"
    on_nodecheckpoint(event, cluster, checkpoints, RecordingQueue())
    assert checkpoints.asked == [("add", Key("default", "blog"))]
