"""kill -9 of each program in the middle of each step: all ends as desired, with nothing left."""

from __future__ import annotations

import pytest

from lab.cluster import Cluster
from tests.system.nodes import CHECKPOINTS, NODES, LabNodes
from tests.system.notes import notes_spec, on_node, visit
from tests.system.objects import Objects, wait_until
from tryitnow.api.checkpoint import Checkpoint, CheckpointPhase
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase

PROGRAMS = ["controller", "agent", "podman"]

PRECREATED = "tryitnow_precreated_"
"""Pre-created sandboxes, as many as the agent wants."""

LATE = 120.0
"""Seconds until all is well again: a restart, a pause after the failure, and the work anew."""


def unit_of(program: str, node: str) -> str:
    return program if program == "controller" else f"{program}-{node}"


def kill(cluster: Cluster, unit: str) -> None:
    """Kill a program and wait until its successor runs."""
    before = cluster.status()[unit]["starts"]
    cluster.kill9(unit)
    wait_until(
        lambda: (now := cluster.status()[unit])["starts"] > before and now["pid"] is not None,
        f"{unit} to be started again",
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_killed_while_a_checkpoint_is_built(
    program: str, cluster: Cluster, objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    node = NODES[0]
    env = {"START_DELAY_SECONDS": "2"}
    spec = notes_spec(notes_image, env=env, distribution=on_node(node))
    objects.checkpoint("notes", spec)
    wait_until(
        lambda: bool(nodes.containers(node, f"tryitnow_build_{objects.namespace}_")),
        "the build's container",
    )
    kill(cluster, unit_of(program, node))
    checkpoint = objects.ready_checkpoint("notes", LATE)
    assert checkpoint.status.archive
    _nothing_but(nodes, objects, [])
    objects.demo("restored", "notes")
    assert visit(objects.ready_demo("restored")).get("/healthz").status_code == 200


@pytest.mark.parametrize("program", PROGRAMS)
def test_killed_while_a_copy_is_fetched(
    program: str, cluster: Cluster, objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    # Big enough that the fetch takes a while on every machine.
    env = {"MEMORY_MIB": "400"}
    objects.checkpoint("big", notes_spec(notes_image, env=env, criu={"compression": "None"}))

    def is_fetching() -> bool:
        phases = {c.status.phase for c in objects.all(NodeCheckpoint)}
        return NodeCheckpointPhase.FETCHING in phases

    wait_until(is_fetching, "the archive to be on its way", 240)
    fetching = next(c for c in objects.all(NodeCheckpoint) if c.spec.fetch is not None)
    kill(cluster, unit_of(program, fetching.spec.node_name))
    objects.wait(
        Checkpoint,
        "big",
        lambda c: c.status.nodes == "2/2" and c.status.phase is CheckpointPhase.READY,
        LATE,
    )
    _nothing_but(nodes, objects, [])
    for node in NODES:
        assert nodes.files(node, CHECKPOINTS, ".partial") == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_killed_while_demos_are_restored(
    program: str, cluster: Cluster, objects: Objects, notes_image: str, nodes: LabNodes
) -> None:
    node = NODES[1]
    objects.checkpoint("notes", notes_spec(notes_image, distribution=on_node(node)))
    objects.ready_checkpoint("notes")
    names = [f"demo-{number}" for number in range(4)]
    for name in names:
        objects.demo(name, "notes")
    wait_until(
        lambda: bool(nodes.containers(node, f"tryitnow_demo_{objects.namespace}_")),
        "the first demo's container",
    )
    kill(cluster, unit_of(program, node))
    demos = [objects.ready_demo(name, LATE) for name in names]
    assert len({demo.status.url for demo in demos}) == len(names)
    for demo in demos:
        assert visit(demo).get("/healthz").status_code == 200
    _nothing_but(nodes, objects, names)


def test_a_demo_outlives_its_agent_and_the_controller(
    cluster: Cluster, objects: Objects, notes_image: str
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image))
    objects.ready_checkpoint("notes")
    objects.demo("steady", "notes")
    before = objects.ready_demo("steady")
    client = visit(before)
    assert client.post("/notes", "kept").status_code == 201
    for unit in ("controller", f"agent-{before.status.node_name}"):
        kill(cluster, unit)
        assert client.notes() == ["kept"]
    objects.demo("another", "notes")
    objects.ready_demo("another")
    after = objects.get(DemoInstance, "steady")
    assert after
    assert after.status.restarts == 0
    assert client.notes() == ["kept"]


def _nothing_but(nodes: LabNodes, objects: Objects, demos: list[str]) -> None:
    """Wait until the nodes run the containers of these demos and no others of this namespace."""

    def running() -> list[str]:
        found = nodes.everywhere(objects.namespace)
        return sorted(name.split("_")[3] for name in found if not name.startswith(PRECREATED))

    wait_until(lambda: running() == sorted(demos), f"only {demos} to run", LATE)
