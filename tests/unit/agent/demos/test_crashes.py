"""How often a demo failed, and when it may be tried again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.unit.agent.demos.shop import Clock
from tryitnow.agent.demos.crashes import FORGIVEN_AFTER, LIMIT_PAUSES, PAUSES, Crashes
from tryitnow.backoff import JITTER


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def crashes(clock: Clock) -> Crashes:
    return Crashes(clock)


def pause(crashes: Crashes) -> timedelta:
    return crashes.remaining("uid") or timedelta()


def test_what_never_failed_need_not_wait(crashes: Crashes) -> None:
    assert crashes.remaining("uid") is None
    crashes.forget("nobody")
    crashes.started("nobody")


@pytest.mark.parametrize("kind", [Crashes.failed, Crashes.waited])
def test_pauses_double_up_to_five_minutes(
    crashes: Crashes, clock: Clock, kind: Callable[[Crashes, str], int]
) -> None:
    for count in range(1, 10):
        assert kind(crashes, "uid") == count
        least = min(PAUSES.first * 2 ** (count - 1), PAUSES.last)
        assert least <= pause(crashes) <= least * (1 + JITTER)
        clock.wait(pause(crashes))


def test_a_limit_of_the_node_is_asked_about_often(crashes: Crashes, clock: Clock) -> None:
    for _ in range(20):
        crashes.limited("uid")
        assert LIMIT_PAUSES.first <= pause(crashes) <= LIMIT_PAUSES.last * (1 + JITTER)
        clock.wait(pause(crashes))


def test_after_the_first_end_there_is_no_pause(crashes: Crashes) -> None:
    assert crashes.ended("uid") == 1
    assert crashes.remaining("uid") is None
    assert crashes.ended("uid") == 2
    assert pause(crashes) >= PAUSES.first


def test_a_pause_gets_shorter_and_ends(crashes: Crashes, clock: Clock) -> None:
    crashes.failed("uid")
    whole = pause(crashes)
    clock.wait(2)
    assert whole - pause(crashes) >= timedelta(seconds=1.99)
    clock.wait(whole)
    assert crashes.remaining("uid") is None


def test_asking_starts_no_pause(crashes: Crashes) -> None:
    crashes.failed("uid")
    assert pause(crashes) == pause(crashes)


def test_each_demo_waits_for_its_own_failures(crashes: Crashes) -> None:
    crashes.failed("one")
    assert crashes.remaining("other") is None
    assert crashes.failed("other") == 1


def test_each_kind_counts_apart(crashes: Crashes) -> None:
    """A full disk and a missing Secret use up no try of the application."""
    for _ in range(3):
        crashes.limited("uid")
        crashes.waited("uid")
        crashes.ended("uid")
    assert crashes.failed("uid") == 1


def test_a_start_that_succeeded_forgives_all_but_the_ends(crashes: Crashes) -> None:
    crashes.ended("uid")
    crashes.failed("uid")
    crashes.limited("uid")
    crashes.started("uid")
    assert crashes.remaining("uid") is None
    assert crashes.failed("uid") == crashes.limited("uid") == 1
    crashes.started("uid")
    assert crashes.ended("uid") == 2


def test_ends_are_forgiven_after_ten_minutes_of_running(crashes: Crashes, clock: Clock) -> None:
    for count in range(1, 5):
        assert crashes.ended("uid") == count
        clock.wait(pause(crashes))
        crashes.started("uid")
    clock.wait(FORGIVEN_AFTER - timedelta(seconds=1))
    assert crashes.ended("uid") == 5, "one that ends now and then is not forgiven"
    clock.wait(pause(crashes))
    crashes.started("uid")
    clock.wait(FORGIVEN_AFTER + timedelta(seconds=1))
    assert crashes.ended("uid") == 1


def test_failures_are_not_forgiven_for_taking_long(crashes: Crashes, clock: Clock) -> None:
    """An application that takes half an hour to fail was not well in between."""
    for count in range(1, 4):
        assert crashes.failed("uid") == count
        clock.wait(timedelta(minutes=30))


def test_who_is_forgotten_starts_anew(crashes: Crashes) -> None:
    crashes.ended("uid")
    crashes.failed("uid")
    crashes.forget("uid")
    assert crashes.remaining("uid") is None
    assert crashes.ended("uid") == crashes.failed("uid") == 1
