"""Argo CD shows each state of our objects as what it is: its own test files, and all the rest."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaError

from tests.unit.argocd.assess import CUSTOMIZATIONS, Health, HealthStatus, assess, run, script
from tryitnow.api.checkpoint import Checkpoint, CheckpointPhase
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import stored
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase

ROOT = Path(__file__).parents[3]
MODELS: dict[str, type[Checkpoint | DemoInstance | NodeCheckpoint]] = {
    model.kind_name: model for model in (Checkpoint, DemoInstance, NodeCheckpoint)
}
PHASES: dict[str, set[str]] = {
    "Checkpoint": {str(phase) for phase in CheckpointPhase},
    "DemoInstance": {str(phase) for phase in DemoInstancePhase},
    "NodeCheckpoint": {str(phase) for phase in NodeCheckpointPhase},
}
KINDS = sorted(MODELS)


@dataclass(frozen=True)
class Case:
    """One entry of a health_test.yaml."""

    file: Path
    expected: Health

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.file.read_text())
        return found


def cases(kind: str) -> list[Case]:
    home = script(kind).parent
    tests = yaml.safe_load((home / "health_test.yaml").read_text())["tests"]
    return [Case(home / test["inputPath"], Health(**test["healthStatus"])) for test in tests]


def read(manifest: dict[str, Any]) -> Checkpoint | DemoInstance | NodeCheckpoint:
    return MODELS[manifest["kind"]].model_validate(manifest)


ALL = [case for kind in KINDS for case in cases(kind)]
each_case = pytest.mark.parametrize(
    "case", ALL, ids=[f"{case.file.parents[1].name}-{case.file.stem}" for case in ALL]
)
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_case
def test_a_case_has_the_health_that_its_file_says(case: Case) -> None:
    assert assess(case.manifest) == case.expected


@each_case
def test_a_case_is_an_object_as_we_write_it(case: Case) -> None:
    manifest = case.manifest
    assert manifest["kind"] == case.file.parents[1].name
    known = stored(read(manifest))
    for part in ("spec", "status"):
        assert known.get(part) == manifest.get(part), f"{part} holds what the model does not know"


@each_kind
def test_the_cases_cover_all_files_all_phases_and_all_answers(kind: str) -> None:
    found = cases(kind)
    files = set((script(kind).parent / "testdata").glob("*.yaml"))
    assert {case.file for case in found} == files
    phases = {read(case.manifest).status.phase for case in found}
    # Whoever is deleted has no other phase in its status; metadata tells it.
    assert phases == PHASES[kind] - {DemoInstancePhase.TERMINATING}
    answers = set(HealthStatus)
    if kind == "NodeCheckpoint":
        answers.remove(HealthStatus.SUSPENDED)
    assert {case.expected.status for case in found} == answers


def test_there_is_a_check_for_each_kind_that_people_or_trees_show() -> None:
    assert {path.parent.name for path in CUSTOMIZATIONS.rglob("health.lua")} == set(KINDS)


def combination(
    kind: str, phase: str, ready: str | None, *, stalled: bool, seen: int | None, reason: str,
    **status: Any,
) -> dict[str, Any]:  # fmt: skip
    """An object in any state, possible or not."""
    conditions = []
    if ready is not None:
        conditions.append({"type": "Ready", "status": ready, "reason": reason, "message": "said"})
    if stalled:
        given_up = {"type": "Stalled", "status": "True", "reason": reason, "message": "given up"}
        conditions.append(given_up)
    status |= {"phase": phase, "conditions": conditions}
    if seen is not None:
        status["observedGeneration"] = seen
    return {
        "apiVersion": "tryitnow.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "any", "generation": 2},
        "status": status,
    }


@pytest.mark.parametrize(
    ("kind", "phase"),
    [(kind, phase) for kind in ("Checkpoint", "DemoInstance") for phase in sorted(PHASES[kind])],
)
def test_in_each_combination_the_conditions_decide(kind: str, phase: str) -> None:
    for ready, stalled, seen, attempts, candidate, reason in itertools.product(
        (None, "True", "False", "Unknown"), (False, True), (None, 1, 2), (0, 1, 2, 3), (None, "x"),
        ("Because", "NoNode"),
    ):  # fmt: skip
        more = {"buildAttempts": attempts, "candidateRevision": candidate}
        manifest = combination(
            kind, phase, ready, stalled=stalled, seen=seen, reason=reason,
            **(more if kind == "Checkpoint" else {}),
        )  # fmt: skip
        health = assess(manifest)
        if seen != 2:
            waiting = "waiting for the controller to look at it"
            assert health == Health(HealthStatus.PROGRESSING, waiting), manifest
        elif stalled:
            assert health == Health(HealthStatus.DEGRADED, "given up"), manifest
        elif ready is not None:
            assert health.message == "said"
        if health.status is HealthStatus.HEALTHY:
            assert ready == "True", manifest


@pytest.mark.parametrize("phase", [str(phase) for phase in NodeCheckpointPhase])
def test_a_revision_on_a_node_is_healthy_only_where_it_can_be_restored(phase: str) -> None:
    for ready in (None, "True", "False", "Unknown"):
        made = combination("NodeCheckpoint", phase, ready, stalled=False, seen=1, reason=phase)
        can_be_restored = phase == "Ready" and ready == "True"
        assert (assess(made).status is HealthStatus.HEALTHY) == can_be_restored


@each_kind
def test_an_object_that_nobody_has_seen_yet_is_on_its_way(kind: str) -> None:
    new = {"apiVersion": "tryitnow.dev/v1alpha1", "kind": kind, "metadata": {"generation": 1}}
    assert assess(new).status is HealthStatus.PROGRESSING
    assert assess({**new, "status": {}}).status is HealthStatus.PROGRESSING


@each_kind
def test_a_deleted_object_is_on_its_way_out_whatever_it_was(kind: str) -> None:
    made = combination(kind, "Ready", "True", stalled=True, seen=2, reason="Because")
    made["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    assert assess(made) == Health(HealthStatus.PROGRESSING, "Pending deletion")


@each_kind
def test_each_reason_that_a_check_asks_for_is_one_that_we_give(kind: str) -> None:
    source = script(kind).read_text()
    asked = set(re.findall(r"^\s*(\w+) = true,?$", source, re.MULTILINE))
    for line in re.findall(r"= \{ (.*?) \}", source):
        asked |= set(re.findall(r"(\w+) = true", line))
    code = "\n".join(path.read_text() for path in (ROOT / "operator/tryitnow").rglob("*.py"))
    assert {reason for reason in asked if f'"{reason}"' not in code} == set()


@pytest.mark.parametrize(
    "forbidden",
    ['return string.format("x")', 'return ("x"):upper()', "return os.time()", "return math.pi"],
)
def test_the_sandbox_has_no_more_than_argo_cds(forbidden: str) -> None:
    with pytest.raises(LuaError):
        run(forbidden, {})
