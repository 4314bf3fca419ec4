"""What the lab's kubelet tells the program that answers for `kubectl logs` and `kubectl exec`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab import kubelet_api, nodes, pods, state
from lab.state import Lab
from tests.unit.lab.test_pods import ADDRESS, pod_of

INIT_PID = 4711


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab of which nothing runs, but whose nodes are switched on."""
    monkeypatch.setattr(state, "ROOT", tmp_path)
    monkeypatch.setattr(nodes, "init_pid", lambda *_: INIT_PID)
    monkeypatch.setattr("lab.cgroups.mountpoint", lambda: Path("/cgroup"))
    made = Lab("unit")
    for name in ("pods", "logs"):
        (made.directory / name).mkdir(parents=True)
    return made


def reported(lab: Lab) -> dict[str, Any]:
    (file,) = (lab.directory / "pods").iterdir()
    assert file.name == "tryitnow-system_pod-1.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def publish(
    lab: Lab, pod: pods.Pod, changed: dict[str, str] | None = None, *, runs: bool = True
) -> dict[str, Any]:
    kubelet_api.publish(lab, pod, pods.pod_process(pod, ADDRESS), changed or {}, runs=runs)
    found: dict[str, Any] = reported(lab)["containers"]
    return found


def test_commands_have_the_rights_and_the_environment_of_the_container(lab: Lab) -> None:
    pod = pod_of("controller.yaml", unit="controller")
    controller = publish(lab, pod, {"METRICS_PORT": "9"})["controller"]
    assert f"--target={INIT_PID}" in controller["enter"]
    assert "--reuid=65532" in controller["enter"]
    assert controller["enter"][-1] == "--"
    assert {"POD_NAME=pod-1", "METRICS_PORT=9"} <= {*controller["env"]}


def test_sidecars_have_their_own_environment_and_log(lab: Lab) -> None:
    pod = pod_of("agent.yaml", node="node-1", unit="agent-node-1")
    found = publish(lab, pod, {"CHANGED": "yes"})
    assert {*found} == {"agent", "podman"}
    assert found["podman"]["log"] == str(lab.log("podman-node-1"))
    assert "CHANGED=yes" in found["agent"]["env"]
    assert not [word for word in found["podman"]["env"] if word.startswith(("CHANGED", "NODE_"))]


def test_a_log_begins_with_its_pod_and_stays_so(lab: Lab) -> None:
    pod = pod_of("controller.yaml", unit="controller")
    lab.log("controller").write_text("of another Pod\n")
    assert publish(lab, pod)["controller"]["offset"] == 15
    lab.log("controller").write_text("of another Pod\nof this one\n")
    assert publish(lab, pod)["controller"]["offset"] == 15
    pod["metadata"]["uid"] = "2"
    assert publish(lab, pod)["controller"]["offset"] == 27
    assert reported(lab)["uid"] == "2"


def test_a_pod_that_ended_has_only_its_log(lab: Lab) -> None:
    pod = pod_of("controller.yaml", unit="controller")
    assert publish(lab, pod)["controller"]["enter"]
    over = publish(lab, pod, runs=False)["controller"]
    assert over["enter"] == []
    assert over["log"]


def test_nothing_can_be_run_on_a_node_that_is_off(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "init_pid", lambda *_: None)
    pod = pod_of("agent.yaml", node="node-1", unit="agent-node-1")
    assert {tuple(container["enter"]) for container in publish(lab, pod).values()} == {()}


def test_a_pod_that_is_gone_is_forgotten(lab: Lab) -> None:
    pod = pod_of("controller.yaml", unit="controller")
    publish(lab, pod)
    kubelet_api.withdraw_others(lab, [pod])
    assert reported(lab)
    kubelet_api.withdraw_others(lab, [])
    assert not [*(lab.directory / "pods").iterdir()]
