"""Which things on the node seem to belong to nobody, and since when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import timedelta


@dataclass
class Suspects:
    """Remembers since when something seems to belong to nobody.

    What is removed was nobody's in two looks, and for a grace period between them.
    """

    grace_seconds: float
    clock: Callable[[], float] = time.monotonic
    _since: dict[str, float] = field(default_factory=dict)

    def forget(self) -> None:
        """Suspect nothing any more: what was seen before proves nothing."""
        self._since = {}

    def proven(self, found: Iterable[str]) -> set[str]:
        """Take in all that one look found; return the part that was found for long enough."""
        now = self.clock()
        self._since = {name: self._since.get(name, now) for name in found}
        return {
            name
            for name, since in self._since.items()
            if now > since and now - since >= self.grace_seconds
        }


@dataclass
class AllSuspects:
    """What seems to belong to nobody, by kind."""

    sandboxes: Suspects
    pods: Suspects
    files: Suspects
    images: Suspects
    processes: Suspects
    ports: Suspects
    trash: Suspects

    @classmethod
    def with_grace(
        cls,
        grace: timedelta,
        trash_retention: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> AllSuspects:
        """Suspect nothing yet."""

        def suspects(period: timedelta) -> Suspects:
            return Suspects(period.total_seconds(), clock)

        return cls(
            sandboxes=suspects(grace),
            pods=suspects(grace),
            files=suspects(grace),
            images=suspects(timedelta()),
            processes=suspects(timedelta()),
            ports=suspects(timedelta()),
            trash=suspects(trash_retention),
        )

    def forget(self) -> None:
        """Suspect nothing any more."""
        for kind in fields(self):
            suspects: Suspects = getattr(self, kind.name)
            suspects.forget()
