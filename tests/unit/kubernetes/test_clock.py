"""What time it is on the API server, and when nobody can say for certain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tryitnow.kubernetes.clock import SETTLING_SECONDS, ServerClock

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR, DAY = 3600.0, 86400.0


class World:
    """An API server's clock and two clocks of this machine."""

    def __init__(self) -> None:
        self.server = START.timestamp() + 0.5
        self.wall = START.timestamp() + 0.5
        self.monotonic = 1000.0
        self.clock = ServerClock(monotonic=lambda: self.monotonic, wall=lambda: self.wall)

    def passes(self, seconds: float) -> None:
        self.server += seconds
        self.wall += seconds
        self.monotonic += seconds

    def answer(self, took: float = 0.01) -> None:
        """Answer a request; its Date header has whole seconds."""
        asked_at = self.monotonic
        self.passes(took)
        date = datetime.fromtimestamp(int(self.server), UTC)
        self.clock.observe(format_datetime(date, usegmt=True), asked_at)

    def runs(self, seconds: float) -> None:
        """Let time pass with an answer every two seconds, as a leader gets them."""
        for _ in range(int(seconds / 2)):
            self.passes(2)
            self.answer()

    def error(self) -> float:
        return self.clock.now().timestamp() - self.server


@pytest.fixture
def world() -> World:
    return World()


def test_before_any_answer_nothing_has_passed_for_certain(world: World) -> None:
    assert abs(world.error()) < 0.01, "the wall clock is all there is"
    assert not world.clock.has_passed(START - timedelta(days=1))


def test_it_is_never_ahead_and_less_than_a_second_behind(world: World) -> None:
    world.runs(120)
    for _ in range(50):
        world.passes(7.3)
        assert -1.5 < world.error() <= 0.02
        world.answer(took=0.3)
        assert world.clock.is_certain


def test_a_moment_has_passed_once_it_has(world: World) -> None:
    world.answer()
    moment = START + timedelta(seconds=100)
    world.passes(98)
    assert not world.clock.has_passed(moment)
    world.passes(4)
    assert world.clock.has_passed(moment)


@pytest.mark.parametrize("step", [DAY, -DAY, 10 * 60.0])
def test_a_step_of_this_machines_clock_changes_nothing_and_is_not_trusted(
    world: World, step: float
) -> None:
    world.runs(10)
    world.wall += step
    assert abs(world.error()) < 2
    assert not world.clock.is_certain, "two clocks disagree, and nobody said which is right"
    world.answer()
    assert world.clock.is_certain, "the API server said it"
    assert abs(world.error()) < 2
    assert not world.clock.has_passed(START + timedelta(hours=1))


def test_a_machine_that_slept_learns_the_time_from_the_next_answer(world: World) -> None:
    world.runs(10)
    world.server += HOUR
    world.wall += HOUR  # the monotonic clock stood still
    assert not world.clock.has_passed(START + timedelta(minutes=1))
    world.answer()
    assert world.clock.has_passed(START + timedelta(minutes=59))
    assert abs(world.error()) < 2


def test_a_step_of_the_api_servers_clock_is_believed_when_it_stays(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.runs(10)
    world.server += DAY
    world.runs(SETTLING_SECONDS - 10)
    assert not world.clock.has_passed(START + timedelta(hours=1))
    world.runs(20)
    assert world.clock.has_passed(START + timedelta(hours=1))
    [record] = caplog.records
    assert "clock says 2026-01-02T12:00:1" in record.getMessage()
    assert "and by the answer before it is 2026-01-01T12:00:1" in record.getMessage()


def test_a_step_that_is_taken_back_costs_nothing(world: World) -> None:
    world.runs(10)
    world.server += DAY
    world.runs(60)
    world.server -= DAY
    world.runs(SETTLING_SECONDS + 10)
    assert world.clock.is_certain
    assert not world.clock.has_passed(START + timedelta(hours=1))


def test_an_api_server_whose_clock_is_another_from_the_beginning_has_to_go_evenly_first(
    world: World,
) -> None:
    world.server += DAY
    world.answer()
    assert not world.clock.has_passed(START)
    world.runs(SETTLING_SECONDS + 2)
    assert world.clock.has_passed(START + timedelta(days=1))


def test_an_answer_without_a_date_says_nothing(world: World) -> None:
    world.clock.observe(None, world.monotonic)
    world.clock.observe("yesterday", world.monotonic)
    assert not world.clock.is_certain
