"""When a thing that failed may be tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tryitnow.agent.backoff import FIRST, FORGIVEN_AFTER, LAST, Backoff


class Clock:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, duration: timedelta) -> None:
        self.now += duration.total_seconds()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


def test_what_never_failed_need_not_wait(clock: Clock) -> None:
    del clock
    assert Backoff().remaining("uid") is None


def test_pauses_double_up_to_five_minutes(clock: Clock) -> None:
    backoff, pauses = Backoff(), []
    for count in range(1, 10):
        assert backoff.failed("uid") == count
        pause = backoff.remaining("uid")
        assert pause is not None
        pauses.append(pause)
        clock.wait(pause)
    assert pauses[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert pauses[-1] == LAST == timedelta(minutes=5)


def test_a_pause_gets_shorter_and_ends(clock: Clock) -> None:
    backoff = Backoff()
    backoff.failed("uid")
    clock.wait(FIRST / 2)
    assert backoff.remaining("uid") == FIRST / 2
    clock.wait(FIRST / 2)
    assert backoff.remaining("uid") is None


def test_asking_starts_no_pause(clock: Clock) -> None:
    del clock
    backoff = Backoff()
    backoff.failed("uid")
    assert backoff.remaining("uid") == backoff.remaining("uid") == FIRST


def test_each_waits_for_its_own_failures(clock: Clock) -> None:
    del clock
    backoff = Backoff()
    backoff.failed("one")
    assert backoff.remaining("other") is None
    assert backoff.failed("other") == 1


def test_what_worked_starts_anew(clock: Clock) -> None:
    del clock
    backoff = Backoff()
    backoff.failed("uid")
    backoff.failed("uid")
    backoff.forget("uid")
    assert backoff.remaining("uid") is None
    assert backoff.failed("uid") == 1


def test_forgetting_what_never_failed_is_fine() -> None:
    Backoff().forget("nobody")


def test_after_ten_quiet_minutes_it_starts_anew(clock: Clock) -> None:
    backoff = Backoff()
    for _ in range(4):
        backoff.failed("uid")
    pause = backoff.remaining("uid")
    assert pause is not None
    clock.wait(pause + FORGIVEN_AFTER - timedelta(seconds=1))
    assert backoff.failed("uid") == 5, "one that fails now and then is not forgiven"
    pause = backoff.remaining("uid")
    assert pause is not None
    clock.wait(pause + FORGIVEN_AFTER + timedelta(seconds=1))
    assert backoff.failed("uid") == 1
