"""How often a demo failed in a row, and when it is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.backoff import Pauses

PAUSES = Pauses(timedelta(seconds=5), timedelta(minutes=5))
"""The kubelet's for its crash loop back-off, from a smaller first pause."""

LIMIT_PAUSES = Pauses(timedelta(seconds=2), timedelta(seconds=15))
"""Between tries while a limit of the node is reached: it ends at any moment, and a try costs
little."""

FORGIVEN_AFTER = timedelta(minutes=10)
"""Without a failure; the kubelet resets its crash loop back-off so."""


@dataclass
class _Failures:
    count: int
    last: float
    not_before: float


class Crashes:
    """Counts by the demo's UID. A restarted agent gives every demo a new chance."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without failures; ``clock`` counts seconds and is never set back."""
        self._clock = clock
        self._failures: dict[str, _Failures] = {}
        self._pending: set[str] = set()

    def ended(self, uid: str) -> int:
        """Count the end of a container, and return how many there were in a row.

        After the first one the demo is started again at once. The end is pending until ``settled``.
        """
        self._pending.add(uid)
        return self._count(uid, lambda count: PAUSES.after(count - 1) if count > 1 else timedelta())

    def failed(self, uid: str) -> int:
        """Count a start that failed, and return how many there were in a row."""
        return self._count(uid, PAUSES.after)

    def limited(self, uid: str) -> int:
        """Count a start that a limit of the node prevented."""
        return self._count(uid, LIMIT_PAUSES.after)

    def _count(self, uid: str, pause: Callable[[int], timedelta]) -> int:
        now = self._clock()
        known = self._failures.get(uid)
        forgiven = known is None or now - known.last > FORGIVEN_AFTER.total_seconds()
        count = 1 if forgiven or known is None else known.count + 1
        self._failures[uid] = _Failures(count, now, now + pause(count).total_seconds())
        return count

    def remaining(self, uid: str) -> timedelta | None:
        """Return what is left of the present pause; None when it may be tried."""
        if uid not in self._failures:
            return None
        left = self._failures[uid].not_before - self._clock()
        return timedelta(seconds=left) if left > 0 else None

    def is_pending(self, uid: str) -> bool:
        """Whether an end was counted and the demo has not come back since."""
        return uid in self._pending

    def settled(self, uid: str) -> None:
        """Note that the demo is back. How often it failed is remembered for a while."""
        self._pending.discard(uid)

    def forget(self, uid: str) -> None:
        """Start anew: it is gone, or a fresh one."""
        self._failures.pop(uid, None)
        self._pending.discard(uid)
