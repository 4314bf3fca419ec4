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
    answers: bool | None = None
    """The verdict; None before there is one."""


@dataclass
class Verdicts:
    """What probes found, by the demo's UID."""

    _probed: dict[str, _Probed] = field(default_factory=dict)

    def of(self, uid: str) -> str | None:
        """Return what was answered instead of the expected answer; None where none is known."""
        probed = self._probed.get(uid)
        return probed.answer if probed is not None and probed.answers is False else None

    def answers(self, uid: str) -> bool:
        """Whether the demo is known to answer: an agent that was just started knows of none."""
        probed = self._probed.get(uid)
        return probed is not None and probed.answers is True

    def note(self, uid: str, answer: str | None) -> bool:
        """Note the outcome of a probe; return whether the verdict changed."""
        probed = self._probed.setdefault(uid, _Probed())
        before = probed.answers
        if answer is None:
            probed.failures, probed.answer, probed.answers = 0, "", True
        else:
            probed.failures, probed.answer = probed.failures + 1, answer
            if probed.failures >= THRESHOLD:
                probed.answers = False
        return before is not probed.answers

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
        """Forget a demo: it is gone, or starts anew."""
        self._probed.pop(uid, None)

    @property
    def not_answering(self) -> int:
        """Number of demos that do not answer."""
        return sum(probed.answers is False for probed in self._probed.values())
