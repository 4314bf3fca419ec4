"""Pauses between retries: doubling, with jitter.

One policy for all retries. Without jitter a thousand agents that failed together, in an outage of
the API server, would all try again together.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

JITTER = 0.2
"""Greatest part that is added to a pause. As in client-go's ``wait.Jitter``, pauses only get
longer: a server that asks for a pause gets at least that."""

_MOST_DOUBLINGS = 40
"""Beyond every sensible last pause; more of them would only make large numbers."""


class RetryableError(Exception):
    """A failure that time may fix."""

    @property
    def retry_after(self) -> timedelta | None:
        """How long the other side asked to be left alone; None where it did not say."""
        return None


@dataclass(frozen=True)
class Pauses:
    """Pauses that double with each failure, up to a last one."""

    first: timedelta
    last: timedelta

    def after(self, failures: int, *, seed: str | None = None) -> timedelta:
        """Return the pause after so many failures in a row, with its jitter.

        Args:
            failures: How many there were; the first pause also where there was none.
            seed: Makes the jitter the same each time, for decisions that are made anew from the
                same facts.

        """
        doublings = min(max(failures - 1, 0), _MOST_DOUBLINGS)
        pause: timedelta = min(self.first * (1 << doublings), self.last)
        chance = random.random() if seed is None else random.Random(seed).random()
        return pause * (1 + JITTER * chance)

    def after_error(self, failures: int, error: Exception) -> timedelta:
        """Return the pause after so many failures, at least as long as the last one asks for."""
        pause = self.after(failures)
        asked = error.retry_after if isinstance(error, RetryableError) else None
        return pause if asked is None else max(pause, asked * (1 + JITTER * random.random()))


@dataclass
class _Failures:
    count: int
    not_before: float


class Backoff:
    """Remembers by an ID how often something failed in a row, and when it may be tried again.

    Our own writes come back as events and have the object looked at again at once; so a pause must
    be remembered, not only asked for. A program that was started again gives everything a new
    chance.
    """

    def __init__(self, pauses: Pauses, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without failures; ``clock`` counts seconds and is never set back."""
        self._pauses = pauses
        self._clock = clock
        self._failures: dict[str, _Failures] = {}

    def failed(self, id_: str) -> int:
        """Count a failure, start the next pause, and return the number of failures in a row."""
        known = self._failures.get(id_)
        count = known.count + 1 if known else 1
        pause = self._pauses.after(count).total_seconds()
        self._failures[id_] = _Failures(count, self._clock() + pause)
        return count

    def remaining(self, id_: str) -> timedelta | None:
        """Return what is left of the present pause; None when it may be tried."""
        if id_ not in self._failures:
            return None
        left = self._failures[id_].not_before - self._clock()
        return timedelta(seconds=left) if left > 0 else None

    def forget(self, id_: str) -> None:
        """Start anew: it worked, or it is not needed any more."""
        self._failures.pop(id_, None)
