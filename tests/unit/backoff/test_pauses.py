"""Doubling pauses with jitter, and the memory of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tryitnow.backoff import JITTER, Backoff, Pauses, RetryableError

SECOND = timedelta(seconds=1)
PAUSES = Pauses(first=5 * SECOND, last=300 * SECOND)


class BusyError(RetryableError):
    """Asks to be left alone."""

    def __init__(self, seconds: float) -> None:
        super().__init__("busy")
        self._seconds = seconds

    @property
    def retry_after(self) -> timedelta:
        return timedelta(seconds=self._seconds)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 5), (1, 5), (2, 10), (3, 20), (7, 300), (1_000_000, 300)]
)
def test_pauses_double_up_to_the_last_and_are_never_shorter(failures: int, seconds: int) -> None:
    for _ in range(50):
        pause = PAUSES.after(failures).total_seconds()
        assert seconds <= pause <= seconds * (1 + JITTER)


def test_those_who_failed_together_do_not_come_back_together() -> None:
    pauses = {PAUSES.after(1) for _ in range(50)}
    assert len(pauses) > 25


def test_the_same_seed_gives_the_same_pause_and_another_seed_another() -> None:
    assert PAUSES.after(3, seed="a") == PAUSES.after(3, seed="a") != PAUSES.after(3, seed="b")


def test_whoever_asks_to_be_left_alone_is() -> None:
    assert PAUSES.after_error(1, BusyError(60)) >= 60 * SECOND
    assert PAUSES.after_error(7, BusyError(1)) >= 300 * SECOND, "and our own pause holds as well"
    assert PAUSES.after_error(1, ValueError()) < 7 * SECOND


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_failures_in_a_row_are_counted_until_one_is_forgotten() -> None:
    clock = Clock()
    backoff = Backoff(PAUSES, clock=clock)
    assert backoff.remaining("a") is None
    assert backoff.failed("a") == 1
    left = backoff.remaining("a")
    assert left is not None
    assert 5 * SECOND <= left <= 6 * SECOND
    clock.seconds += 7
    assert backoff.remaining("a") is None, "its pause is over"
    assert backoff.failed("a") == 2
    left = backoff.remaining("a")
    assert left is not None
    assert left >= 10 * SECOND
    assert backoff.remaining("b") is None
    backoff.forget("a")
    assert backoff.remaining("a") is None
    assert backoff.failed("a") == 1
