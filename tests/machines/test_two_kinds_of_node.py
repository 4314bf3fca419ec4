"""A machine and a light node in one cluster: an archive goes from one to the other.

They have different kernels and processors. The application runs as root alone, since the light node
can checkpoint no other (lab/apps/README.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import images
from lab.cluster import Cluster
from lab.machines import fleet
from lab.machines.machine import Machine
from lab.progress import step
from tests.machines.waiting import READY_WITHIN, ready_checkpoint, ready_demo, wait_long
from tests.system.notes import notes_spec, on_node, visit
from tests.system.objects import Objects, condition
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import StartedBy
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase

NAME = "notes"
LIGHT = "node-1"


@pytest.fixture(scope="module")
def mixed(cluster: Cluster, machine: Machine) -> Iterator[Cluster]:
    """A lab of both kinds; the other lab's machine is off meanwhile."""
    machine.power_off()
    lab = Cluster(f"{cluster.lab.name}mix"[:16], nodes=1, machines=1)
    lab.down()
    try:
        lab.up()
        yield lab
    finally:
        lab.down()
        machine.power_on()
        fleet.wait_ready(machine, cluster.api)


@pytest.fixture(scope="module")
def mixed_objects(mixed: Cluster) -> Iterator[Objects]:
    objects = Objects(mixed.kubeconfig, "both-kinds")
    objects.create_namespace()
    try:
        yield objects
    finally:
        objects.close()


def test_demos_go_to_the_nodes_that_have_proven_the_archive(
    mixed: Cluster, mixed_objects: Objects
) -> None:
    (machine,) = mixed.machines
    image = images.ensure(mixed, "notes")
    readiness = {"httpGet": {"path": "/healthz"}, "expectedBody": "ok", "timeout": "10m"}
    spec = notes_spec(image, readiness=readiness, distribution=on_node(machine))
    mixed_objects.checkpoint(NAME, spec)
    ready_checkpoint(mixed_objects, NAME)
    mixed_objects.patch(Checkpoint, NAME, {"spec": {"distribution": None}})
    with step("the light node fetches the archive and tries a restore"):
        (light,) = [one for one in copies(mixed_objects, 2) if one.spec.node_name == LIGHT]
        fetched = mixed_objects.wait(NodeCheckpoint, light.metadata.name, has_tried, READY_WITHIN)
    assert fetched.spec.fetch is not None
    proven = {one.spec.node_name for one in mixed_objects.all(NodeCheckpoint) if is_ready(one)}
    assert machine in proven
    for number in range(2):
        mixed_objects.demo(f"demo-{number}", NAME)
    demos = [ready_demo(mixed_objects, f"demo-{number}") for number in range(2)]
    # Which of them the light node can be depends on the kernel of the machine that runs the lab:
    # where it lacks a file of /proc that the runtime masks, CRIU has nothing to mount there.
    assert {demo.status.node_name for demo in demos} <= proven
    for demo in demos:
        assert demo.status.started_by is StartedBy.RESTORE, demo.status.fallback_message
        visit(demo).post("/notes", demo.metadata.name)
        assert visit(demo).notes()[-1] == demo.metadata.name


def copies(objects: Objects, count: int) -> list[NodeCheckpoint]:
    wait_long(lambda: len(objects.all(NodeCheckpoint)) == count, f"{count} NodeCheckpoints")
    return objects.all(NodeCheckpoint)


def has_tried(found: NodeCheckpoint) -> bool:
    """Whether the node has its verdict: for Ready or for a reason that its condition names."""
    quarantined = found.status.phase is NodeCheckpointPhase.QUARANTINED
    return is_ready(found) or (quarantined and bool(condition(found, "Ready").message))


def is_ready(found: NodeCheckpoint) -> bool:
    return found.status.phase is NodeCheckpointPhase.READY
