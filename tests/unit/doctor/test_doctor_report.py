"""What the checks come to, for people, programs and conditions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.doctor.conftest import Missing, Node
from tryitnow.api.nodeagent import Verdict
from tryitnow.doctor.report import (
    can_run,
    criu_available,
    exit_status,
    render_json,
    render_text,
    summary,
)


def test_a_good_node_does_all(node: Node) -> None:
    assert summary(node.checks) is Verdict.PASS
    assert can_run(node.checks) == (
        True,
        "Podman 5.8.6, rootful, at unix:///run/podman/podman.sock",
    )
    assert criu_available(node.checks) == (True, "OCI runtime crun 1.28 with +CRIU; CRIU 4.2.1")
    assert exit_status(node.checks) == 0


def test_a_warning_stops_nothing(node: Node) -> None:
    warned = node.but(cgroup_v1=("cpu",))
    assert summary(warned.checks) is Verdict.WARN
    assert exit_status(warned.checks) == 0


def test_without_criu_demos_start_cold_and_the_condition_tells_what_to_do(
    node: Node, missing: Missing
) -> None:
    bare = node.but(criu=missing("criu"))
    assert summary(bare.checks) is Verdict.FAIL
    assert can_run(bare.checks)[0]
    assert criu_available(bare.checks) == (
        False,
        "CRIU: criu is not installed (to fix it: `apt-get install -y criu libcriu2`)",
    )
    assert exit_status(bare.checks) == 1


def test_the_condition_names_every_failed_check(node: Node, missing: Missing) -> None:
    both = node.but(criu=missing("criu")).with_directory(mode=0o755)
    message = criu_available(both.checks)[1]
    assert "CRIU: criu is not installed" in message
    assert "; checkpoint path: " in message
    assert "\n" not in message


def test_criu_that_was_switched_off_is_the_only_reason_given(node: Node, missing: Missing) -> None:
    off = node.but(criu_enabled=False, criu=missing("criu"))
    available, message = criu_available(off.checks)
    assert not available
    assert message.startswith("CRIU_ENABLED: CRIU was switched off on purpose")
    assert "installed" not in message
    assert exit_status(off.checks) == 1


@pytest.mark.parametrize("change", [{"user": 1000}, {"system": "Darwin"}])
def test_nothing_runs_without_root_or_linux(node: Node, change: dict[str, Any]) -> None:
    assert not can_run(node.but(**change).checks)[0]
    assert exit_status(node.but(**change).checks) == 2


def test_nothing_runs_without_podman(node: Node) -> None:
    away = node.without_podman()
    assert can_run(away.checks)[1].startswith("Podman: there is no socket at")
    assert not criu_available(away.checks)[0]
    assert exit_status(away.checks) == 2


def test_a_node_that_was_not_examined_is_trusted_with_nothing() -> None:
    assert can_run(()) == criu_available(()) == (False, "the node has not been examined yet")
    assert summary(()) is Verdict.FAIL
    assert exit_status(()) == 2


def test_the_text_shows_mark_name_and_finding_and_the_remedy_below(
    node: Node, missing: Missing
) -> None:
    lines = render_text(node.but(criu=missing("criu")).checks).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("FAIL"))
    assert lines[at] == "FAIL  CRIU             criu is not installed"
    assert lines[at + 1] == "                       → `apt-get install -y criu libcriu2`"
    assert lines[-1] == "Demos start cold on this node: it cannot restore them."


def test_findings_stand_in_one_column(node: Node) -> None:
    first = render_text(node.checks).splitlines()[: len(node.checks)]
    column = 23
    assert all(line[column - 1] == " " and line[column] != " " for line in first)


def test_the_text_fits_80_columns_but_never_breaks_a_command(node: Node, missing: Missing) -> None:
    bad = node.but(criu=missing("criu"), cgroup_v1=("cpu",), iptables=missing("iptables-restore"))
    bad = bad.with_directory(mode=0o755, owner=7)
    text = render_text(bad.checks)
    for line in text.splitlines():
        alone = line.strip("→ ")
        assert len(line) <= 80 or alone.count("`") == 2, line
    for check in bad.checks:
        for command in check.remedy.split("`")[1::2]:
            assert f"`{command}`" in text


def test_the_json_has_the_same_keys_whatever_was_found(node: Node) -> None:
    for checks in (node.checks, node.without_podman().checks, ()):
        found = json.loads(render_json(checks, "node-1"))
        assert list(found) == [
            "node", "verdict", "exitStatus", "canRun", "canTake", "criuAvailable", "checks",
        ]  # fmt: skip
        assert found["node"] == "node-1"
        for check in found["checks"]:
            assert list(check) == ["name", "verdict", "found", "remedy"]
