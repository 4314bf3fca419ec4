"""Warm sandboxes: claimed by one demo each, replaced when they end, scaled, paused."""

from __future__ import annotations

import pytest
import requests

from tests.system.conftest import Kubectl
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec, on_node, visit
from tests.system.objects import Objects, wait_until
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import StartedBy

NODE = NODES[0]


def wait_warm(objects: Objects, name: str, count: int) -> Checkpoint:
    return objects.wait(Checkpoint, name, lambda c: c.status.warm_ready == count)


def wait_waiting(nodes: LabNodes, objects: Objects, count: int) -> None:
    wait_until(lambda: len(waiting(nodes, objects)) == count, f"{count} warm sandboxes to wait")


def waiting(nodes: LabNodes, objects: Objects) -> list[str]:
    return nodes.everywhere(f"tryitnow_warm_{objects.namespace}_")


def test_a_burst_takes_each_warm_sandbox_once_and_restores_the_rest(
    objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image, pool={"warm": 4}))
    objects.ready_checkpoint("notes")
    objects.settled_pool("notes", 4)
    wait_waiting(nodes, objects, 4)
    names = [f"burst-{number}" for number in range(8)]
    for name in names:
        objects.demo(name, "notes")
    demos = [objects.ready_demo(name) for name in names]
    started = [demo.status.started_by for demo in demos]
    assert set(started) <= {StartedBy.WARM, StartedBy.RESTORE}
    # A sandbox that replaced another meanwhile may serve a late demo.
    assert started.count(StartedBy.WARM) >= 4
    assert len({demo.status.url for demo in demos}) == len(names)
    for demo in demos:
        assert visit(demo).post("/notes", demo.metadata.name).status_code == 201
    for demo in demos:
        assert visit(demo).notes() == [demo.metadata.name]
    wait_warm(objects, "notes", 4)


def test_kubectl_scales_the_pool(
    objects: Objects, notes_image: str, nodes: LabNodes, kubectl: Kubectl
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image, pool={"warm": 0}))
    objects.ready_checkpoint("notes")
    assert waiting(nodes, objects) == []
    for replicas in (2, 1, 0):
        words = ["scale", "checkpoint/notes", f"--replicas={replicas}", "-n", objects.namespace]
        scaled = kubectl(*words)
        assert scaled.returncode == 0, scaled.stderr
        wait_warm(objects, "notes", replicas)
        wait_waiting(nodes, objects, replicas)


def test_a_paused_pool_uses_no_processor_and_serves_all_the_same(
    objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    pool = {"warm": 1, "pause": True}
    objects.checkpoint("notes", notes_spec(notes_image, pool=pool, distribution=on_node(NODE)))
    objects.ready_checkpoint("notes")
    wait_warm(objects, "notes", 1)
    (name,) = waiting(nodes, objects)
    state = nodes.inspect(NODE, name)["State"]
    assert state["Status"] == "paused"
    # All of its processes: one that the restore left in another cgroup would run on.
    cgroup = nodes.shell(NODE, f"grep ^0:: /proc/{state['Pid']}/cgroup").strip()[3:]
    events = nodes.shell(NODE, f"cat /sys/fs/cgroup{cgroup}/cgroup.events")
    assert "frozen 1" in events.splitlines()
    objects.demo("claimed", "notes")
    demo = objects.ready_demo("claimed")
    assert demo.status.started_by is StartedBy.WARM
    assert visit(demo).get("/healthz").status_code == 200


def test_a_waiting_copy_that_died_is_replaced(
    objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    spec = notes_spec(notes_image, pool={"warm": 1}, distribution=on_node(NODE))
    objects.checkpoint("notes", spec)
    objects.ready_checkpoint("notes")
    wait_warm(objects, "notes", 1)
    (name,) = waiting(nodes, objects)
    nodes.podman(NODE, "kill", name)
    wait_until(
        lambda: (now := waiting(nodes, objects)) != [name] and len(now) == 1,
        "another warm sandbox to wait",
    )
    objects.settled_pool("notes", 1)
    objects.demo("claimed", "notes")
    assert objects.ready_demo("claimed").status.started_by is StartedBy.WARM


def test_waiting_copies_outlive_the_agent_and_are_of_the_revision_that_serves(
    objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    spec = notes_spec(notes_image, pool={"warm": 1}, distribution=on_node(NODE))
    objects.checkpoint("notes", spec)
    first = objects.ready_checkpoint("notes").status.current_revision
    wait_warm(objects, "notes", 1)
    before = waiting(nodes, objects)
    nodes.cluster.restart(f"agent-{NODE}")
    objects.demo("claimed", "notes")
    assert objects.ready_demo("claimed").status.started_by in {StartedBy.WARM, StartedBy.RESTORE}
    wait_warm(objects, "notes", 1)
    changed = notes_spec(
        notes_image, env={"TITLE": "Second"}, pool={"warm": 1}, distribution=on_node(NODE)
    )
    objects.patch(Checkpoint, "notes", {"spec": changed})
    objects.wait(
        Checkpoint,
        "notes",
        lambda c: c.status.current_revision not in {first, None} and c.status.warm_ready == 1,
        90.0,
    )
    wait_until(
        lambda: all(f"_{first}-" not in name for name in waiting(nodes, objects)),
        "the warm sandboxes of the old revision to go",
    )
    assert waiting(nodes, objects) != before
    objects.demo("new", "notes")
    assert "<h1>Second</h1>" in visit(objects.ready_demo("new")).get("/").text


def test_limits_and_a_pause_reach_every_process_of_a_restored_demo(
    objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image, distribution=on_node(NODE)))
    objects.ready_checkpoint("notes")
    objects.demo("restored", "notes")
    demo = objects.ready_demo("restored")
    assert demo.status.started_by is StartedBy.RESTORE
    (name,) = nodes.containers(NODE, "_restored_")
    found = nodes.podman(NODE, "top", name, "hpid").split()[1:]
    assert len(found) >= 2
    homes = {nodes.shell(NODE, f"grep ^0:: /proc/{pid}/cgroup").strip() for pid in found}
    assert len(homes) == 1
    assert nodes.inspect(NODE, name)["Id"] in homes.pop()
    client = visit(demo)
    assert client.post("/notes", "kept").status_code == 201
    nodes.podman(NODE, "pause", name)
    with pytest.raises(requests.Timeout):
        client.get("/healthz", timeout=5)
    nodes.podman(NODE, "unpause", name)
    assert client.notes() == ["kept"], "a demo that somebody pauses is not one that ended"
