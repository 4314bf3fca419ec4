"""The lines that a run is held against."""

from __future__ import annotations

import pytest

from bench import acceptance
from bench.demos import Burst
from bench.imports import PROGRAMS
from bench.results import KINDS, Results
from bench.series import Series
from bench.steady import Steady
from bench.table import table


@pytest.fixture
def results() -> Results:
    """A run without another checkout."""
    found = Results()
    for kind in KINDS:
        if kind != "burst_32_base":
            found.add(kind, 1.0)
    found.by_hand.add(1.0)
    found.bursts.append(Burst(10.0, {"Warm": 8, "Restore": 24}, 32))
    found.steady = Steady(Series([0.1]), {"Warm": 120}, 0.5, 2.0)
    return found


def line(results: Results, beginning: str) -> acceptance.Line:
    (found,) = [one for one in acceptance.lines(results) if one.what.startswith(beginning)]
    return found


def test_a_burst_of_the_expected_ways_is_not_counted_as_odd(results: Results) -> None:
    assert line(results, "bursts of 32 that were not").found == 0


def test_a_burst_with_a_cold_start_is_odd(results: Results) -> None:
    results.bursts.append(Burst(10.0, {"Warm": 8, "Restore": 23, "ColdStart": 1}, 32))
    assert not line(results, "bursts of 32 that were not").holds


def test_bursts_are_held_against_the_other_checkout_where_there_is_one(results: Results) -> None:
    assert "burst_32_base" not in "".join(one.what for one in acceptance.lines(results))
    results.add("burst_32_base", 0.9)
    results.base_bursts.append(Burst(0.9, {"Warm": 8, "Restore": 24}, 32))
    assert not line(results, "burst_32 p50 / burst_32_base p50").holds


def test_steady_demand_is_held_against_three_bounds(results: Results) -> None:
    results.steady = Steady(Series([0.1]), {"Warm": 107, "Restore": 13}, 5.1, 10.1)
    found = [one for one in acceptance.lines(results) if one.what.startswith("steady demand")]
    assert [one.holds for one in found] == [False, False, False]


def test_the_table_leaves_out_what_was_not_measured(results: Results) -> None:
    text = table(results)
    assert "nan" not in text
    assert KINDS["burst_32_base"] not in text
    assert "steady demand: 120 Warm" in text


def test_the_programs_imports_are_held_against_their_limits(results: Results) -> None:
    results.imports = {"agent_import": 0.2, "demo_import": 0.3}
    assert line(results, "agent_import").holds
    assert not line(results, "demo_import").holds
    assert set(acceptance.IMPORT_LIMITS) == set(PROGRAMS)
