"""How long a step took elsewhere: from other demos, or from a histogram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Distribution(Protocol):
    """Many times of the same step."""

    @property
    def count(self) -> int:
        """How many there are."""

    def quantile(self, share: float) -> float:
        """Return the seconds within which that share of them ended."""

    def share_below(self, seconds: float) -> float:
        """Return which share of them was quicker, from 0 to 1."""


@dataclass(frozen=True)
class Samples:
    """Times of single demos."""

    seconds: Sequence[float]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.seconds)

    def quantile(self, share: float) -> float:
        """Return a nearest-rank percentile: always a value that was measured."""
        ordered = sorted(self.seconds)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    def share_below(self, seconds: float) -> float:
        """Return which share was quicker."""
        return sum(1 for other in self.seconds if other < seconds) / len(self.seconds)


@dataclass(frozen=True)
class Buckets:
    """A Prometheus histogram: how many took at most so long."""

    cumulative: Sequence[tuple[float, float]]
    """Upper bound in seconds and number, in rising order; the last bound is infinite."""

    @property
    def count(self) -> int:
        """How many there are."""
        return round(self.cumulative[-1][1])

    def quantile(self, share: float) -> float:
        """Return what histogram_quantile() returns: straight lines between the bounds."""
        wanted = share * self.cumulative[-1][1]
        below, before = 0.0, 0.0
        for bound, number in self.cumulative:
            if number >= wanted:
                if math.isinf(bound):
                    return below
                inside = number - before
                return below + (bound - below) * ((wanted - before) / inside if inside else 1.0)
            below, before = bound, number
        return below

    def share_below(self, seconds: float) -> float:
        """Return which share was quicker, by straight lines between the bounds."""
        total = self.cumulative[-1][1]
        below, before = 0.0, 0.0
        for bound, number in self.cumulative:
            if seconds <= bound:
                inside = 0.0 if math.isinf(bound) else (seconds - below) / (bound - below)
                return (before + (number - before) * inside) / total
            below, before = bound, number
        return 1.0
