"""What the bench says about steady demand, from the levels that a watch showed."""

from __future__ import annotations

import pytest

from bench.series import Series
from bench.steady import POOLS, Level, Levels, Steady, full_since, longest_empty

BEGAN, ENDED = 100.0, 160.0


def levels(*pairs: tuple[float, int]) -> list[Level]:
    return [Level(at, warm) for at, warm in pairs]


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        pytest.param(levels((90, 4)), 0, id="never"),
        pytest.param(levels((90, 4), (110, 0), (112, 1)), 2, id="for a while"),
        pytest.param(levels((90, 4), (110, 0), (111, 0), (113, 1)), 3, id="said twice"),
        pytest.param(levels((90, 4), (110, 0), (112, 1), (120, 0), (127, 2)), 7, id="the longest"),
        pytest.param(levels((90, 0), (104, 1)), 4, id="from before the beginning"),
        pytest.param(levels((90, 4), (155, 0)), 5, id="at the end"),
        pytest.param(levels((90, 4), (155, 0), (170, 4)), 5, id="beyond the end"),
        pytest.param(levels((90, 4), (161, 0), (170, 4)), 0, id="only after the end"),
    ],
)
def test_the_longest_time_with_an_empty_pool_counts_within_the_demand(
    found: list[Level], seconds: float
) -> None:
    assert longest_empty(found, BEGAN, ENDED) == seconds


def test_a_pool_is_full_since_it_stayed_so() -> None:
    assert full_since(levels((1, 4), (2, 3), (5, 4), (6, 4)), 4) == 5
    assert full_since(levels((1, 4), (2, 3)), 4) is None
    assert full_since([], 4) is None


def test_other_checkpoints_are_not_noted() -> None:
    found = Levels()
    found.note({"metadata": {"name": "bench"}, "status": {"warmReady": 8}}, 1.0)
    found.note({"metadata": {"name": POOLS[0]}}, 2.0)
    assert found.pools == {POOLS[0]: [Level(2.0, 0)], POOLS[1]: []}


def test_claims_that_were_not_warm_count_against_the_pools() -> None:
    steady = Steady(Series(), {"Warm": 108, "Restore": 11, "ColdStart": 1}, 0, 0)
    assert steady.warm_share == 0.9
