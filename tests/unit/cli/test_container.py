"""``tryitnow logs`` and ``shell``: the way to a demo's container."""

from __future__ import annotations

import os

import pytest

from tests.unit.builders import make_demo
from tests.unit.cli.conftest import Run
from tests.unit.fakes import FakeKubernetes
from tryitnow.podman.command import exec_argv, logs_argv


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the command would have become."""
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, argv: seen.append(argv))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    return seen


@pytest.fixture
def bound(kubernetes: FakeKubernetes) -> None:
    kubernetes.put(make_demo("annas", node="node-a"))
    kubernetes.agents_pods[("tryitnow-system", "node-a")] = ["agent-x7"]


@pytest.mark.usefixtures("bound")
def test_logs_go_through_the_agents_pod_of_the_demos_node(
    run: Run, became: list[list[str]]
) -> None:
    run("logs", "annas", "--follow", "--tail", "5", "-c", "database")
    [argv] = became
    ours = argv[argv.index("--") + 1 :]
    assert argv[:2] == ["kubectl", "exec"]
    assert "--namespace=tryitnow-system" in argv
    assert "agent-x7" in argv
    assert "--container=agent" in argv
    assert "--tty" not in argv
    assert ours == [
        "tryitnow", "logs", "annas", "--container=database", "--follow", "--tail=5",
        "-n", "default", "--on-node",
    ]  # fmt: skip


@pytest.mark.usefixtures("bound")
def test_a_shells_command_reaches_the_container_as_it_was_written(
    run: Run, became: list[list[str]]
) -> None:
    run("shell", "annas", "--context", "prod", "--", "sh", "-c", "echo $HOME", "-f")
    [argv] = became
    assert "--context=prod" in argv
    assert argv[argv.index("--on-node") :] == ["--on-node", "--", "sh", "-c", "echo $HOME", "-f"]


def test_a_demo_that_runs_nowhere_has_no_container(
    run: Run, kubernetes: FakeKubernetes, became: list[list[str]]
) -> None:
    kubernetes.put(make_demo("annas"))
    done = run("logs", "annas")
    assert done.exit_code == 6
    assert "runs nowhere yet" in done.output
    assert became == []


def test_without_the_agents_pod_the_way_on_the_node_is_reported(
    run: Run, kubernetes: FakeKubernetes, became: list[list[str]]
) -> None:
    kubernetes.put(make_demo("annas", node="node-a"))
    done = run("shell", "annas")
    assert done.exit_code == 4
    assert "tryitnow shell annas -n default --on-node" in done.output
    assert became == []


def test_podman_is_asked_at_the_nodes_socket() -> None:
    assert logs_argv("unix:///x", "c", follow=True, tail=3) == [
        "podman", "--remote", "--url=unix:///x", "logs", "--follow", "--tail=3", "c",
    ]  # fmt: skip
    assert exec_argv("unix:///x", "c", ["id", "-u"], terminal=True) == [
        "podman", "--remote", "--url=unix:///x", "exec", "--interactive", "--tty", "c", "id", "-u",
    ]  # fmt: skip
