"""A node that brings nothing but its kernel: agent and Podman in a Pod of the operator's image."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.system.agent_pod import AgentPod
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec, on_node, visit
from tests.system.objects import Objects, is_true, wait_until
from tryitnow.api.demoinstance import DemoInstance, StartedBy

NODE = NODES[1]


@pytest.fixture(scope="module")
def pod(nodes: LabNodes, shipped_to_nodes: str) -> Iterator[AgentPod]:
    """The Pod in the place of the agent that the lab runs from the checkout."""
    nodes.cluster.stop(f"agent-{NODE}")
    made = AgentPod(nodes, NODE, shipped_to_nodes)
    try:
        made.start()
        yield made
        made.kill()
    finally:
        nodes.cluster.start(f"agent-{NODE}")


@pytest.fixture(autouse=True)
def _log(pod: AgentPod, request: pytest.FixtureRequest) -> Iterator[None]:
    """Show what the agent in the Pod wrote, should a test fail."""
    yield
    request.node.add_report_section("teardown", "log of the Pod's agent", pod.log()[-6000:])


def containers(pod: AgentPod) -> list[str]:
    return pod.inside("podman", "podman", "ps", "--all", "--format={{.Names}}").split()


def main_process(pod: AgentPod, container: str) -> str:
    return pod.inside("podman", "podman", "inspect", "--format={{.State.Pid}}", container).strip()


def test_demos_live_on_when_the_pod_is_replaced(
    pod: AgentPod, objects: Objects, notes_image: str
) -> None:
    objects.checkpoint("notes", notes_spec(notes_image, distribution=on_node(NODE)))
    objects.ready_checkpoint("notes")
    objects.demo("old", "notes")
    demo = objects.ready_demo("old")
    assert demo.status.started_by is StartedBy.RESTORE
    visitor = visit(demo)
    assert visitor.post("/notes", "before").status_code == 201
    (mine,) = (name for name in containers(pod) if f"_{objects.namespace}_old" in name)
    process = main_process(pod, mine)

    pod.kill()
    # Each request makes it write to its log: conmon is alive too.
    assert visitor.notes() == ["before"]
    assert visitor.post("/notes", "between").status_code == 201

    pod.start()
    objects.demo("new", "notes")
    assert objects.ready_demo("new").status.started_by is StartedBy.RESTORE
    assert main_process(pod, mine) == process
    assert visitor.notes() == ["before", "between"]
    found = objects.get(DemoInstance, "old")
    assert found
    assert is_true(found.status.conditions, "Ready")
    objects.delete(DemoInstance, "old")
    wait_until(lambda: mine not in containers(pod), f"{mine} to be removed")
    assert visitor.is_gone()


def test_the_doctor_looks_where_podman_is(pod: AgentPod) -> None:
    report = json.loads(pod.inside("agent", "tryitnow", "doctor", "--json"))
    assert report["canRun"]["status"] is True
    assert report["criuAvailable"]["status"] is True
    found = {check["name"]: check["found"] for check in report["checks"]}
    # Only Podman's container was told to leave cgroups alone.
    assert "CRIU leaves cgroups alone" in found["cgroups"]
