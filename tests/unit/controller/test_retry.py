"""After a failed build: whether to try again, and when."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tryitnow.api.limits import NODE_LIMITS
from tryitnow.controller.retry import MAX_BUILDS, is_fault, is_final, pause


def test_a_pause_grows_with_each_failure_up_to_five_minutes() -> None:
    for attempts, seconds in ((1, 5), (2, 10), (3, 20), (100_000, 300)):
        least = timedelta(seconds=seconds)
        assert least <= pause(attempts, "uid-1") <= 1.2 * least


def test_one_failure_has_one_pause_however_often_it_is_reconciled() -> None:
    assert pause(2, "uid-1") == pause(2, "uid-1")
    assert pause(2, "uid-1") != pause(2, "uid-2"), "or all would be tried again in one moment"


@pytest.mark.parametrize("reason", ["CheckpointFailed", "ApplicationNotReady", "WarmUpFailed"])
def test_a_fault_of_the_application_is_final_after_three_builds(reason: str) -> None:
    assert is_fault(reason)
    assert [is_final(reason, n) for n in range(1, 4)] == [False, False, True]
    assert MAX_BUILDS == 3


@pytest.mark.parametrize(
    "reason",
    [
        "EgressNotAllowed",
        "ImagePullFailed",
        "NodeLost",
        "ArchiveLost",
        "RevisionMissing",
        "SourceMissing",
        *sorted(NODE_LIMITS),
    ],
)
def test_no_limit_of_a_node_and_nothing_that_may_pass_is_a_fault(reason: str) -> None:
    assert not is_fault(reason)
    assert not is_final(reason, 1000)
