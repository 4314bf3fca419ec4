"""What an administrator does to a node and to the release while a demo runs, on a real kubelet.

The tests are one story: they share a demo, and after each it has what was written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.cluster import Cluster
from lab.machines.machine import Machine
from lab.progress import step
from lab.release import CHART
from tests.machines import guestbook
from tests.machines.guestbook import Guest
from tests.machines.waiting import READY_WITHIN, ready_checkpoint, ready_demo, wait_long
from tests.system.objects import Objects, condition
from tests.system.terminal import Terminal
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.api.nodeagent import NodeAgent

NAMESPACE = "tryitnow-system"
DEMO = "steady"
TAINT = "maintenance=yes:NoExecute"
CAPACITY = 7
SETTLED_S = 20.0
"""For what must not happen: an agent notes a Node's change at once."""


@pytest.fixture(scope="module")
def guest(demos: Objects) -> Guest:
    demos.demo(DEMO, guestbook.NAME)
    guest = Guest(ready_demo(demos, DEMO))
    guest.write("kept")
    return guest


def runs_on(demos: Objects, guest: Guest) -> bool:
    """Whether the demo runs as it did: its data is there, and nothing of it was started again."""
    demo = demos.get(DemoInstance, DEMO)
    assert demo
    return guest.entries() == ["kept"] and demo.status.restarts == 0


def agent_pod(cluster: Cluster) -> str:
    """The name of the agent's Pod; empty where there is none."""
    selector = "labelSelector=app.kubernetes.io/component%3Dagent"
    listed = cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods?{selector}") or {"items": []}
    for pod in listed["items"]:
        if "deletionTimestamp" not in pod["metadata"]:
            return str(pod["metadata"]["name"])
    return ""


def capacity(demos: Objects, machine: Machine) -> int | None:
    agent = demos.get(NodeAgent, machine.name)
    return agent.status.capacity if agent else None


def is_back(cluster: Cluster) -> bool:
    """Whether agent and controller are ready."""
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}"
    agents = cluster.api.get(f"{path}/daemonsets/tryitnow-agent")
    controller = cluster.api.get(f"{path}/deployments/tryitnow-controller")
    return bool(
        agents
        and agents["status"].get("numberReady") == 1
        and controller
        and controller["status"].get("availableReplicas")
    )


@contextmanager
def cordoned(cluster: Cluster, machine: Machine) -> Iterator[None]:
    cluster.kubectl("cordon", machine.name)
    try:
        yield
    finally:
        cluster.kubectl("uncordon", machine.name)


def test_the_kubelet_shows_the_agents_log_and_runs_commands(
    cluster: Cluster, demos: Objects, guest: Guest, terminal: Terminal
) -> None:
    pod = agent_pod(cluster)
    log = cluster.kubectl("-n", NAMESPACE, "logs", pod, "--container=agent").stdout
    assert f"{demos.namespace}/{DEMO}" in log
    words = ("-n", NAMESPACE, "exec", pod, "--container=podman", "--", "podman", "ps", "--quiet")
    assert cluster.kubectl(*words).stdout.split()
    assert terminal.run(f"tryitnow shell {DEMO} -- id --user --name").stdout.strip() == "root"
    assert runs_on(demos, guest)


def test_helm_test_says_what_the_node_can(cluster: Cluster, machine: Machine) -> None:
    cluster.helm("test", "try-it-now", "--timeout=300s")
    log = cluster.kubectl("-n", NAMESPACE, "logs", "tryitnow-test").stdout
    assert f"node {machine.name}: checkpoints and restores" in log


def test_a_cordoned_node_gets_no_new_demo_and_keeps_its_old_ones(
    cluster: Cluster, machine: Machine, demos: Objects, guest: Guest
) -> None:
    with cordoned(cluster, machine):
        demos.demo("late", guestbook.NAME)
        time.sleep(SETTLED_S)  # nothing may happen
        late = demos.get(DemoInstance, "late")
        assert late
        assert late.status.node_name is None
        assert "cordoned" in (condition(late, "Ready").message or "")
        assert runs_on(demos, guest)
    assert ready_demo(demos, "late").status.started_by is StartedBy.RESTORE
    demos.delete(DemoInstance, "late")
    demos.wait_gone(DemoInstance, "late", READY_WITHIN)


def test_a_drained_node_keeps_its_demos(
    cluster: Cluster, machine: Machine, demos: Objects, guest: Guest
) -> None:
    words = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=300s")
    with step("drain", usually="1 min"):
        cluster.kubectl("drain", machine.name, *words)
    assert runs_on(demos, guest)
    cluster.kubectl("uncordon", machine.name)
    wait_long(lambda: is_back(cluster), "agent and controller to be back")
    assert runs_on(demos, guest)


def test_a_taint_that_ends_the_agent_ends_no_demo(
    cluster: Cluster, machine: Machine, demos: Objects, guest: Guest
) -> None:
    before = agent_pod(cluster)
    cluster.kubectl("taint", "node", machine.name, TAINT)
    try:
        wait_long(lambda: agent_pod(cluster) != before, "the agent's Pod to be evicted")
        assert runs_on(demos, guest)
    finally:
        cluster.kubectl("taint", "node", machine.name, f"{TAINT}-")
    wait_long(lambda: is_back(cluster), "agent and controller to be back")
    assert runs_on(demos, guest)


def test_demos_run_on_through_an_upgrade_and_a_rollback(
    cluster: Cluster, machine: Machine, demos: Objects, guest: Guest
) -> None:
    before = capacity(demos, machine)
    with step("helm upgrade", usually="2 min"):
        cluster.helm(
            "upgrade", "try-it-now", CHART, "--reset-then-reuse-values",
            f"--set=agent.maxInstances={CAPACITY}", "--wait", "--timeout=900s",
        )  # fmt: skip
    wait_long(lambda: capacity(demos, machine) == CAPACITY, "the new values to be in force")
    assert runs_on(demos, guest)
    with step("helm rollback", usually="2 min"):
        cluster.helm("rollback", "try-it-now", "--wait", "--timeout=900s")
    wait_long(lambda: capacity(demos, machine) == before, "the old values to be in force")
    assert runs_on(demos, guest)
    demos.demo("another", guestbook.NAME)
    assert ready_demo(demos, "another").status.started_by is StartedBy.RESTORE


def test_an_uninstallation_ends_all_demos_and_an_installation_builds_again(
    cluster: Cluster, machine: Machine, demos: Objects, guest: Guest
) -> None:
    values = cluster.helm("get", "values", "try-it-now", "--output=yaml")
    file = cluster.lab.directory / "values-of-the-release.yaml"
    file.write_text(values)
    assert runs_on(demos, guest)
    with step("helm uninstall", usually="1 min"):
        cluster.helm("uninstall", "try-it-now", "--wait", "--timeout=600s")
    assert not demos.all(DemoInstance)
    assert not guest.is_answered()
    assert machine.shell("pgrep --count --exact redis-server || true").strip() == "0"
    with step("helm install", usually="2 min"):
        cluster.helm("install", "try-it-now", CHART, f"--values={file}", "--wait", "--timeout=900s")
    ready_checkpoint(demos, guestbook.NAME)
    demos.demo("anew", guestbook.NAME)
    assert ready_demo(demos, "anew").status.started_by is StartedBy.RESTORE
