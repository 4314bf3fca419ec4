"""When a thing that failed may be tried again, whatever else happens to its object meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

FIRST = timedelta(seconds=5)
LAST = timedelta(minutes=5)
"""The kubelet's cap for its image pull and crash loop back-off."""

FORGIVEN_AFTER = timedelta(minutes=10)
"""Without a failure, after the last pause; the kubelet resets its crash loop back-off so."""


@dataclass
class _Failures:
    count: int
    not_before: float


class Backoff:
    """Doubling pauses, by the UID of the object that failed.

    Our own status writes come back as events and have the object looked at again at once; so a
    pause must be remembered, not only asked for. A restarted agent gives everything a new chance.
    """

    def __init__(self) -> None:
        self._failures: dict[str, _Failures] = {}

    def failed(self, uid: str) -> int:
        """Count a failure, start the next pause, and return the number of failures in a row."""
        now = time.monotonic()
        known = self._failures.get(uid)
        if known is not None and now - known.not_before > FORGIVEN_AFTER.total_seconds():
            known = None
        count = known.count + 1 if known else 1
        pause = min(FIRST * (1 << min(count - 1, 10)), LAST)
        self._failures[uid] = _Failures(count, now + pause.total_seconds())
        return count

    def remaining(self, uid: str) -> timedelta | None:
        """Return what is left of the present pause; None when there is none."""
        if uid not in self._failures:
            return None
        left = self._failures[uid].not_before - time.monotonic()
        return timedelta(seconds=left) if left > 0 else None

    def forget(self, uid: str) -> None:
        """Start anew: it worked, or the object is gone."""
        self._failures.pop(uid, None)
