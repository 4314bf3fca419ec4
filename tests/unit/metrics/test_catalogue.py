"""The metrics' names and labels keep Prometheus' rules, and their page says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tryitnow.metrics.bounds import START_OBJECTIVE_SECONDS
from tryitnow.metrics.catalogue import ALL, exposed_by
from tryitnow.metrics.family import Counted, Family, Program, State, Timed
from tryitnow.metrics.page import rendered
from tryitnow.metrics.starts import RESTORE_DURATION, START_DURATION, START_PHASE_DURATION

PAGE = Path(__file__).parents[3] / "docs/metrics.md"

each = pytest.mark.parametrize("family", ALL, ids=[family.name for family in ALL])


@each
def test_a_name_says_whose_it_is_and_ends_with_its_unit(family: Family) -> None:
    assert family.name.startswith("tryitnow_")
    match family:
        case Counted():
            assert family.name.endswith("_total")
        case Timed():
            assert family.name.endswith("_duration_seconds")
        case State():
            assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))


@each
def test_units_are_base_units(family: Family) -> None:
    for unit in ("milliseconds", "_ms", "minutes", "kib", "mib", "megabytes", "percent"):
        assert unit not in family.name


@each
def test_no_label_names_an_instance_or_a_revision(family: Family) -> None:
    known = {
        "namespace", "checkpoint", "node", "phase", "method", "source", "policy", "purpose",
        "result", "reason", "fallback_reason", "check", "verdict", "operation", "error", "verb",
        "resource", "code", "queue", "state", "cause", "program", "version",
        "kernel", "criu", "podman", "runtime",
    }  # fmt: skip
    assert set(family.labels) <= known


@each
def test_help_is_a_sentence(family: Family) -> None:
    assert family.help.endswith(".")
    assert family.programs


def test_no_two_have_the_same_name() -> None:
    assert len({family.name for family in ALL}) == len(ALL)


@pytest.mark.parametrize("family", [START_DURATION, RESTORE_DURATION, START_PHASE_DURATION])
def test_the_objective_is_a_bound(family: Timed) -> None:
    assert START_OBJECTIVE_SECONDS in family.buckets


@each
def test_bounds_rise(family: Family) -> None:
    if isinstance(family, Timed):
        assert list(family.buckets) == sorted(set(family.buckets))


def test_each_program_has_its_own() -> None:
    agent, controller = exposed_by(Program.AGENT), exposed_by(Program.CONTROLLER)
    assert START_DURATION in agent
    assert START_DURATION not in controller
    assert set(agent) | set(controller) == set(ALL)


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == rendered()
