"""``tryitnow doctor`` on real nodes, and what the cluster shows of it."""

from __future__ import annotations

import json
from typing import Any

from tests.system.conftest import Kubectl
from tests.system.nodes import NODES, LabNodes
from tests.system.objects import Objects, is_true

NODE = NODES[0]


def examine(nodes: LabNodes, *, code: int) -> dict[str, Any]:
    done = nodes.cluster.exec(NODE, ["tryitnow", "doctor", "--json"], check=False)
    assert done.returncode == code, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_good_node_passes_every_check(nodes: LabNodes) -> None:
    report = examine(nodes, code=0)
    assert report["canRun"]["status"] is True
    assert report["criuAvailable"]["status"] is True
    assert {check["verdict"] for check in report["checks"]} <= {"Pass", "Warn"}
    assert len(report["checks"]) >= 8
    for check in report["checks"]:
        assert check["found"], check


def test_a_node_without_criu_is_told_how_to_fix_it(nodes: LabNodes) -> None:
    criu = nodes.shell(NODE, "command -v criu").strip()
    nodes.shell(NODE, f"mv {criu} {criu}.away")
    try:
        report = examine(nodes, code=1)
    finally:
        nodes.shell(NODE, f"mv {criu}.away {criu}")
    failed = [check for check in report["checks"] if check["verdict"] == "Fail"]
    assert failed
    assert all(check["remedy"] for check in failed)
    assert any("criu" in check["remedy"] for check in failed)


def test_a_checkpoint_directory_that_others_can_read_is_found(nodes: LabNodes) -> None:
    directory = "/var/lib/try-it-now/checkpoints"
    nodes.shell(NODE, f"chmod 755 {directory}")
    try:
        done = nodes.cluster.exec(NODE, ["tryitnow", "doctor"], check=False)
    finally:
        nodes.shell(NODE, f"chmod 700 {directory}")
    assert f"`chmod 0700 {directory}`" in done.stdout


def test_the_cluster_shows_the_outcome(module_objects: Objects, kubectl: Kubectl) -> None:
    # The tests before this took CRIU away, and the agent may have looked just then.
    agent = module_objects.agent(
        NODE,
        lambda a: all(is_true(a.status.conditions, c) for c in ("Ready", "CRIUAvailable")),
    )
    assert {check.name for check in agent.status.checks}
    assert agent.status.versions.criu
    assert agent.status.versions.podman
    shown = kubectl("get", "nodeagents").stdout
    row = next(line for line in shown.splitlines() if line.startswith(NODE))
    assert row.split()[1:3] == ["True", "True"]
