"""Whether ready demos answer, as the probes found: what ``watch`` writes and ``keep`` reads."""

from __future__ import annotations

from dataclasses import dataclass, field

THRESHOLD = 3
"""Probes in a row that fail before a demo counts as not answering; a Pod's failureThreshold."""


@dataclass
class _Probed:
    failures: int = 0
    answer: str = ""
    due: float = 0.0


@dataclass
class Verdicts:
    """What probes found, by the demo's UID."""

    _probed: dict[str, _Probed] = field(default_factory=dict)

    def of(self, uid: str) -> str | None:
        """Return what was answered instead of the expected answer; None while all is well."""
        probed = self._probed.get(uid)
        return probed.answer if probed is not None and probed.failures >= THRESHOLD else None

    def note(self, uid: str, answer: str | None) -> bool:
        """Note the outcome of a probe; return whether the verdict changed."""
        probed = self._probed.setdefault(uid, _Probed())
        before = self.of(uid) is not None
        probed.failures = 0 if answer is None else probed.failures + 1
        probed.answer = answer or ""
        return before != (self.of(uid) is not None)

    def is_suspect(self, uid: str) -> bool:
        """Whether the last probe failed."""
        probed = self._probed.get(uid)
        return probed is not None and probed.failures > 0

    def due(self, uid: str) -> float:
        """Return when the next probe is due, in monotonic seconds."""
        return self._probed.setdefault(uid, _Probed()).due

    def put_off(self, uid: str, until: float) -> None:
        """Have the next probe at that time."""
        self._probed.setdefault(uid, _Probed()).due = until

    def forget(self, uid: str) -> None:
        """Forget a demo: it is gone, or starts anew."""
        self._probed.pop(uid, None)

    @property
    def not_answering(self) -> int:
        """Number of demos that do not answer."""
        return sum(probed.failures >= THRESHOLD for probed in self._probed.values())
