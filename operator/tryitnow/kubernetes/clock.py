"""The API server's clock, by which deadlines count; no wall clock of this machine does.

The API server puts the time of its own clock into every answer (the ``Date`` header) and into every
object (``creationTimestamp``). Between two answers the monotonic clock of this machine, which
cannot be set, keeps that time going. So there are three clocks: that of the API server, the
monotonic one, and the wall clock of this machine. While no two of them agree on how much time went
by, nothing is certain, and nothing may be deleted because its time is over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

logger = logging.getLogger(__name__)

TOLERANCE_SECONDS = 60.0
"""Difference that is no jump: several API servers' clocks need not agree to the second."""

SETTLING_SECONDS = 300.0
"""How long the API server's clock must go evenly after a jump of its own before it counts again:
time to set a wrong one right before it costs anybody a demo."""

_SECOND = 1.0
"""The precision of a Date header: it has whole seconds."""


@dataclass(frozen=True)
class _Answer:
    server: float
    """The API server's time at the answer, in seconds since 1970."""
    monotonic: float
    wall: float


class ServerClock:
    """The time on the API server."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Know nothing yet; ``monotonic`` and ``wall`` are this machine's clocks, in seconds."""
        self._monotonic = monotonic
        self._wall = wall
        self._last: _Answer | None = None
        self._doubted_until = 0.0
        self._doubt = "this machine's clock was set"
        self._warned = False

    def observe(self, date: str | None, asked_at: float) -> None:
        """Take in the Date header of an answer, and when (monotonic) the request was sent."""
        try:
            reported = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return  # a proxy in between may leave it out
        monotonic, wall = self._monotonic(), self._wall()
        latest = reported + _SECOND + (monotonic - asked_at)
        # The earliest that the answer allows: nothing ends before its time.
        server = reported
        if self._last is None:
            if _distance(wall, reported, latest) > TOLERANCE_SECONDS:
                self._begin_doubt(reported, "and this machine's", wall)
        else:
            expected = self._last.server + monotonic - self._last.monotonic
            server = min(max(expected, reported), latest)
            by_wall = self._last.server + wall - self._last.wall
            jumps = [_distance(expected, reported, latest), _distance(by_wall, reported, latest)]
            # A machine that slept has a monotonic clock that stood still, and a wall clock that
            # was set: the API server's agrees with one of them all the same.
            if min(jumps) > TOLERANCE_SECONDS:
                self._begin_doubt(reported, "and by the answer before it is", expected)
        self._last = _Answer(server, monotonic, wall)

    def now(self) -> datetime:
        """Return the present time on the API server, as well as it is known."""
        if self._last is None:
            return datetime.fromtimestamp(self._wall(), UTC)
        server = self._last.server + self._monotonic() - self._last.monotonic
        return datetime.fromtimestamp(server, UTC)

    @property
    def is_certain(self) -> bool:
        """Whether the clocks agree, so that something may be deleted because of the time."""
        if self._last is None or self._monotonic() < self._doubted_until:
            return False
        by_monotonic = self._monotonic() - self._last.monotonic
        by_wall = self._wall() - self._last.wall
        return abs(by_monotonic - by_wall) <= TOLERANCE_SECONDS

    def has_passed(self, moment: datetime) -> bool:
        """Whether a moment has passed for certain."""
        if self.now() < moment:
            return False
        if self.is_certain:
            self._warned = False
            return True
        if not self._warned:
            self._warned = True
            logger.warning(
                "no demo is deleted at the end of its ttl while the clocks disagree: %s; check "
                "the clocks of the API server and of this machine",
                self._doubt,
            )
        return False

    def _begin_doubt(self, reported: float, other: str, value: float) -> None:
        self._doubted_until = self._monotonic() + SETTLING_SECONDS
        self._doubt = (
            f"the API server's clock says {_text(reported)}, {other} {_text(value)}; this lasts "
            f"until the API server's clock has gone evenly for {SETTLING_SECONDS:.0f} s"
        )


def _distance(value: float, low: float, high: float) -> float:
    return max(low - value, value - high, 0.0)


def _text(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
