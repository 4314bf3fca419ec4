"""What the lab makes of a Pod: the program it asks for, with the rights that it leaves."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from charts.render import template
from lab import LabError, pods

ADDRESS = "192.0.2.1"


def pod_of(file: str, *, node: str = pods.CONTROL, unit: str = "") -> pods.Pod:
    """A Pod as the real controllers make it of the chart's workload in that file."""
    rendered: list[dict[str, Any]] = list(yaml.safe_load_all(template(only=file)))
    (found,) = [o for o in rendered if "template" in o["spec"]]
    spec = {**found["spec"]["template"]["spec"], "nodeName": node}
    annotations = {pods.UNIT: unit} if unit else {}
    metadata = {"name": "pod-1", "namespace": "tryitnow-system", "uid": "1",
                "annotations": annotations}  # fmt: skip
    return {"metadata": metadata, "spec": spec}


def test_the_controller_runs_as_its_pod_says() -> None:
    process = pods.pod_process(pod_of("controller.yaml", unit="controller"), ADDRESS)
    assert process.uid == 65532
    assert process.argv[-2:] == ["tryitnow", "controller"]
    assert {"--reuid=65532", "--no-new-privs", "--bounding-set=-all"} <= {*process.argv}
    assert "remount,bind,ro" in " ".join(process.argv)
    assert process.env["POD_NAME"] == "pod-1"
    assert process.env["POD_NAMESPACE"] == "tryitnow-system"
    assert process.metrics_port == 8080


def test_a_second_controller_at_the_same_address_has_another_port() -> None:
    process = pods.pod_process(pod_of("controller.yaml", unit="controller-2"), ADDRESS)
    assert process.metrics_port == 8081
    assert process.env["METRICS_PORT"] == "8081"


def test_the_agent_runs_as_root_and_knows_its_node() -> None:
    pod = pod_of("agent.yaml", node="node-1", unit="agent-node-1")
    process = pods.pod_process(pod, ADDRESS)
    assert process.argv == ["tryitnow", "agent"]
    assert process.env["NODE_NAME"] == "node-1"
    assert process.env["NODE_ADDRESS"] == ADDRESS
    assert process.metrics_port == 9444
    assert pods.transfer_tokens(pod) == {"transfer-token": "tryitnow-agent-transfer"}


def test_a_unit_is_named_for_its_node_or_by_the_first_free_number() -> None:
    assert pods.unit_name(pod_of("agent.yaml", node="node-2"), set()) == "agent-node-2"
    controller = pod_of("controller.yaml")
    assert pods.unit_name(controller, set()) == "controller"
    assert pods.unit_name(controller, {"controller"}) == "controller-2"
    assert pods.unit_name(controller, {"controller-2"}) == "controller"


def test_a_daemonsets_pod_goes_to_its_node() -> None:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-2"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    pod = pod_of("agent.yaml")
    pod["spec"]["affinity"] = {"nodeAffinity": required}
    assert pods.node_of(pod) == "node-2"
    assert pods.node_of(pod_of("controller.yaml")) == pods.CONTROL


def test_pods_of_others_are_not_run() -> None:
    pod = pod_of("controller.yaml", unit="controller")
    pod["spec"]["containers"][0]["image"] = "registry.example.com/other:1"
    with pytest.raises(LabError, match="runs Pods with one container of try-it-now only"):
        pods.pod_process(pod, ADDRESS)


def test_a_pod_that_must_not_be_root_needs_a_user() -> None:
    pod = pod_of("controller.yaml", unit="controller")
    del pod["spec"]["securityContext"]["runAsUser"]
    with pytest.raises(LabError, match="must not run as root"):
        pods.pod_process(pod, ADDRESS)


def test_a_sidecar_is_one_more_container_that_runs() -> None:
    pod = pod_of("agent.yaml", node="node-1", unit="agent-node-1")
    since = "2030-01-01T00:00:00Z"
    written = pods.status(pod, ADDRESS, phase="Running", ready=False, since=since)
    (agent,) = written["containerStatuses"]
    (podman,) = written["initContainerStatuses"]
    assert (agent["name"], agent["ready"]) == ("agent", False)
    assert (podman["name"], podman["ready"], podman["started"]) == ("podman", True, True)
    assert podman["state"] == {"running": {"startedAt": since}}
    del pod["spec"]["initContainers"]
    written = pods.status(pod, ADDRESS, phase="Running", ready=True, since=since)
    assert "initContainerStatuses" not in written


def test_a_container_that_ends_before_the_main_one_is_no_sidecar() -> None:
    pod = pod_of("agent.yaml", node="node-1", unit="agent-node-1")
    del pod["spec"]["initContainers"][0]["restartPolicy"]
    assert pods.sidecars(pod) == []
