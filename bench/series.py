"""Measured times of one kind, and what is said about them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Series:
    """Samples of one kind, in seconds."""

    samples: list[float] = field(default_factory=list)

    def add(self, seconds: float) -> None:
        """Take a sample in."""
        self.samples.append(seconds)

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.samples)

    @property
    def p50(self) -> float:
        """The median."""
        return self.percentile(50)

    @property
    def p95(self) -> float:
        """What 95 of 100 do not exceed."""
        return self.percentile(95)

    def percentile(self, percent: float) -> float:
        """Return the nearest-rank percentile: always a value that was measured."""
        if not self.samples:
            return math.nan
        rank = math.ceil(percent / 100 * len(self.samples))
        return sorted(self.samples)[max(rank, 1) - 1]

    def as_json(self) -> dict[str, float | int]:
        """Return what build/bench.json holds of it."""
        return {"p50": round(self.p50, 6), "p95": round(self.p95, 6), "n": self.n}
