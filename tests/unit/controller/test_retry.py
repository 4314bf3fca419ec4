"""After a failed build: whether to try again, and when."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tryitnow.controller.retry import FIRST_PAUSE, LAST_PAUSE, MAX_BUILDS, is_final, pause


def test_pauses_double_up_to_five_minutes() -> None:
    pauses = [pause(attempts) for attempts in range(1, 10)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LAST_PAUSE == timedelta(minutes=5)
    assert pauses == sorted(pauses)


def test_a_pause_after_very_many_failures_is_no_longer() -> None:
    assert pause(100_000) == LAST_PAUSE


def test_before_any_failure_the_pause_is_the_first() -> None:
    assert pause(0) == FIRST_PAUSE


@pytest.mark.parametrize("reason", ["CheckpointFailed", "ApplicationNotReady", "WarmUpFailed"])
def test_a_fault_of_the_application_is_final_after_three_builds(reason: str) -> None:
    assert [is_final(reason, n) for n in range(1, 4)] == [False, False, True]
    assert MAX_BUILDS == 3


@pytest.mark.parametrize(
    "reason", ["ImagePullFailed", "NodeLost", "CopiesLost", "NoPort", "SourceMissing"]
)
def test_what_the_world_may_mend_is_never_final(reason: str) -> None:
    assert not is_final(reason, 1000)
