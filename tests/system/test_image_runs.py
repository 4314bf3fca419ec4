"""The operator's image alone runs controller and agent, on a node that brings only its kernel."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import datetime

import pytest

from lab import operator_image
from tests.pages import blocks
from tests.system.agent_pod import AgentPod
from tests.system.conftest import LOG_SHOWN
from tests.system.nodes import NODES, LabNodes
from tests.system.notes import notes_spec, on_node, visit
from tests.system.objects import Objects, is_true, wait_until
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.api.meta import ConditionStatus, find_condition, now
from tryitnow.api.nodeagent import CONFIRM_STORAGE_ANNOTATION, STORAGE_CHANGED, NodeAgent

NODE = NODES[1]


@pytest.fixture(scope="module")
def pod(nodes: LabNodes, shipped_to_nodes: str) -> Iterator[AgentPod]:
    """The Pod in the place of the agent that the lab runs from the checkout."""
    nodes.cluster.stop(f"agent-{NODE}")
    made = AgentPod(nodes, NODE, shipped_to_nodes)
    try:
        made.start()
        yield made
    finally:
        made.kill()
        began = now()
        nodes.cluster.start(f"agent-{NODE}")
        # Its Podman and the lab's have different storages.
        wait_until(lambda: is_confirmed(nodes, began), f"the storage of {NODE} to be taken on")


def is_confirmed(nodes: LabNodes, began: datetime) -> bool:
    """Confirm the node's storage if its agent says that it changed; return whether it is well.

    A report from before ``began`` is another agent's.
    """
    found = nodes.cluster.kubectl("get", "nodeagent", NODE, "-o", "json").stdout
    agent = NodeAgent.model_validate_json(found)
    if agent.status.heartbeat is None or agent.status.heartbeat < began:
        return False
    storage = find_condition(agent.status.conditions, STORAGE_CHANGED)
    if storage is not None and storage.status is ConditionStatus.TRUE:
        confirmation = f"{CONFIRM_STORAGE_ANNOTATION}={agent.status.storage.id}"
        nodes.cluster.kubectl("annotate", "--overwrite", "nodeagent", NODE, confirmation)
    return storage is not None and storage.status is ConditionStatus.FALSE


@pytest.fixture
def logged(pod: AgentPod, request: pytest.FixtureRequest) -> Iterator[AgentPod]:
    """The same; what its agent wrote is shown, should the test fail."""
    yield pod
    request.node.add_report_section("teardown", "log of the Pod's agent", pod.log()[-LOG_SHOWN:])


@pytest.fixture(scope="module")
def run(nodes: LabNodes, shipped_to_nodes: str) -> Iterator[LabNodes]:
    """A container of it on a node, confined as the controller's is, in which to run programs."""
    nodes.podman(
        NODE, "run", "--detach", "--name=shipped", "--read-only", "--read-only-tmpfs=false",
        "--cap-drop=all", "--network=none", "--entrypoint=sleep", shipped_to_nodes, "infinity",
    )  # fmt: skip
    yield nodes
    nodes.podman(NODE, "rm", "--force", "--time=0", "shipped")


def test_it_is_built_and_pushed_as_the_page_says(shipped: str, nodes: LabNodes) -> None:
    by_hand, *_ = blocks("install.md")
    name = shlex.split(by_hand)[3]
    ours = name.replace("registry.example.com", nodes.cluster.registry)
    for line in by_hand.replace(name, ours).splitlines():
        program, *words = shlex.split(line)
        assert program == "podman"
        operator_image.podman(*words)
    operator_image.podman("rmi", ours)
    nodes.podman(NODE, "pull", "--quiet", ours)
    pulled = nodes.podman(NODE, "image", "inspect", "--format={{.Id}}", ours).strip()
    assert pulled == operator_image.identity(shipped)


def test_both_programs_start_without_any_right(run: LabNodes) -> None:
    def inside(*argv: str) -> str:
        return run.podman(NODE, "exec", "shipped", *argv)

    assert inside("id", "-u").strip() == "65532"
    assert "Usage: tryitnow controller" in inside("tryitnow", "controller", "--help")
    assert "Usage: tryitnow agent" in inside("tryitnow", "agent", "--help")
    assert operator_image.version() in inside("tryitnow", "--version")
    # Its bytecode is there: the file system is read-only.
    asked = "import tryitnow.agent.main as m; print(m.__file__, m.__cached__)"
    source, cached = inside("/opt/try-it-now/bin/python", "-c", asked).split()
    assert source.startswith("/opt/try-it-now/lib/")
    assert inside("stat", "--format=%F", cached).strip() == "regular file"


def test_the_kubelet_can_tell_whether_podman_lives(logged: AgentPod) -> None:
    assert logged.live() == {"podman": True}
    signal = "kill -{} $(cat /sys/fs/cgroup/try-it-now/cgroup.procs)"
    logged.inside("podman", "sh", "-c", signal.format("STOP"))
    try:
        assert logged.live() == {"podman": False}
    finally:
        logged.inside("podman", "sh", "-c", signal.format("CONT"))
    assert logged.live() == {"podman": True}


def containers(pod: AgentPod) -> list[str]:
    return pod.inside("podman", "podman", "ps", "--all", "--format={{.Names}}").split()


def main_process(pod: AgentPod, container: str) -> str:
    return pod.inside("podman", "podman", "inspect", "--format={{.State.Pid}}", container).strip()


def test_demos_live_on_when_the_pod_is_replaced(
    logged: AgentPod, objects: Objects, notes_image: str
) -> None:
    pod = logged
    objects.checkpoint("notes", notes_spec(notes_image, distribution=on_node(NODE)))
    objects.ready_checkpoint("notes")
    objects.demo("old", "notes")
    demo = objects.ready_demo("old")
    assert demo.status.started_by is StartedBy.RESTORE
    client = visit(demo)
    assert client.post("/notes", "before").status_code == 201
    (mine,) = (name for name in containers(pod) if f"_{objects.namespace}_old" in name)
    process = main_process(pod, mine)

    pod.kill()
    # Each request makes it write to its log: conmon is alive too.
    assert client.notes() == ["before"]
    assert client.post("/notes", "between").status_code == 201

    pod.start()
    objects.demo("new", "notes")
    assert objects.ready_demo("new").status.started_by is StartedBy.RESTORE
    assert main_process(pod, mine) == process
    assert client.notes() == ["before", "between"]
    found = objects.get(DemoInstance, "old")
    assert found
    assert is_true(found.status.conditions, "Ready")
    objects.delete(DemoInstance, "old")
    wait_until(lambda: mine not in containers(pod), f"{mine} to be removed")
    assert client.is_gone()


def test_the_doctor_looks_where_podman_is(pod: AgentPod) -> None:
    report = json.loads(pod.inside("agent", "tryitnow", "doctor", "--json"))
    assert report["canRun"]["status"] is True
    assert report["criuAvailable"]["status"] is True
    found = {check["name"]: check["found"] for check in report["checks"]}
    # Only Podman's container was told to leave cgroups alone.
    assert "CRIU leaves cgroups alone" in found["cgroups"]
