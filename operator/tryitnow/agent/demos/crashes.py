"""How often a demo failed in a row, and when it is tried again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from tryitnow.backoff import Pauses

PAUSES = Pauses(timedelta(seconds=5), timedelta(minutes=5))
"""The kubelet's for its crash loop back-off, from a smaller first pause."""

LIMIT_PAUSES = Pauses(timedelta(seconds=2), timedelta(seconds=15))
"""Between tries while a limit of the node is reached: it ends at any moment, and a try costs
little."""

FORGIVEN_AFTER = timedelta(minutes=10)
"""Of running without an end; the kubelet resets its crash loop back-off so."""

_ENDED, _FAILED, _WAITED, _LIMITED = "ended", "failed", "waited", "limited"


@dataclass
class _Failures:
    counts: Counter[str] = field(default_factory=Counter)
    """Apart by kind: a full disk must not use up the tries that an application has."""

    not_before: float = float("-inf")


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
        known = self._failures.get(uid)
        if known is not None and self._clock() - known.not_before > FORGIVEN_AFTER.total_seconds():
            known.counts[_ENDED] = 0
        return self._count(
            uid, _ENDED, lambda count: PAUSES.after(count - 1) if count > 1 else timedelta()
        )

    def interrupted(self, uid: str) -> int:
        """Note an end that is nobody's fault, as by a reboot of the node: it counts as none."""
        self._pending.add(uid)
        return 0

    def failed(self, uid: str) -> int:
        """Count a start that failed, and return how many there were in a row."""
        return self._count(uid, _FAILED, PAUSES.after)

    def waited(self, uid: str) -> int:
        """Count a start that something outside of the demo prevented, such as a registry."""
        return self._count(uid, _WAITED, PAUSES.after)

    def limited(self, uid: str) -> int:
        """Count a start that a limit of the node prevented."""
        return self._count(uid, _LIMITED, LIMIT_PAUSES.after)

    def _count(self, uid: str, kind: str, pause: Callable[[int], timedelta]) -> int:
        known = self._failures.setdefault(uid, _Failures())
        known.counts[kind] += 1
        count = known.counts[kind]
        known.not_before = self._clock() + pause(count).total_seconds()
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

    def started(self, uid: str) -> None:
        """Note that a start succeeded: only ends of containers count on, which show a loop."""
        self._pending.discard(uid)
        known = self._failures.get(uid)
        if known is None:
            return
        if known.counts[_ENDED]:
            known.counts = Counter({_ENDED: known.counts[_ENDED]})
            known.not_before = self._clock()
        else:
            self.forget(uid)

    def forget(self, uid: str) -> None:
        """Start anew: it is gone, or a fresh one."""
        self._failures.pop(uid, None)
        self._pending.discard(uid)
