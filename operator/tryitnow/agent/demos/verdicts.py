"""Whether ready demos answer, as the probes found: what ``watch`` writes and ``keep`` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

THRESHOLD = 3
"""Probes in a row that fail before a demo counts as not answering; a Pod's failureThreshold."""


class Verdict(Enum):
    """What is known of a demo."""

    UNKNOWN = "unknown"
    """Not enough probes yet, since this agent or the demo was started."""

    ANSWERS = "answers"
    SILENT = "silent"


@dataclass
class _Probed:
    verdict: Verdict = Verdict.UNKNOWN
    failures: int = 0
    answer: str = ""
    due: float = 0.0


@dataclass
class Verdicts:
    """What probes found, by the demo's UID."""

    _probed: dict[str, _Probed] = field(default_factory=dict)

    def of(self, uid: str) -> Verdict:
        """Return what is known."""
        probed = self._probed.get(uid)
        return probed.verdict if probed is not None else Verdict.UNKNOWN

    def answer_of(self, uid: str) -> str:
        """Return what was answered last instead of the expected answer."""
        probed = self._probed.get(uid)
        return probed.answer if probed is not None else ""

    def note(self, uid: str, answer: str | None) -> bool:
        """Note the outcome of a probe, None for success; return whether the verdict changed."""
        probed = self._probed.setdefault(uid, _Probed())
        before = probed.verdict
        probed.failures = 0 if answer is None else probed.failures + 1
        probed.answer = answer or ""
        if answer is None:
            probed.verdict = Verdict.ANSWERS
        elif probed.failures >= THRESHOLD:
            probed.verdict = Verdict.SILENT
        return before is not probed.verdict

    def is_suspect(self, uid: str) -> bool:
        """Whether the last probe failed."""
        probed = self._probed.get(uid)
        return probed is not None and probed.failures > 0

    def due(self, uid: str) -> float:
        """Return when the next probe is due, in monotonic seconds."""
        probed = self._probed.get(uid)
        return probed.due if probed is not None else 0.0

    def put_off(self, uid: str, until: float) -> None:
        """Have the next probe at that time."""
        self._probed.setdefault(uid, _Probed()).due = until

    def forget(self, uid: str) -> None:
        """Forget a demo: it is gone, or was started anew or again."""
        self._probed.pop(uid, None)

    @property
    def not_answering(self) -> int:
        """Number of demos that do not answer."""
        return sum(probed.verdict is Verdict.SILENT for probed in self._probed.values())
