"""The agents as the controller sees them: how long each has been silent, by one clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tryitnow.api.meta import Key
from tryitnow.api.nodeagent import LOST_AFTER, NodeAgent
from tryitnow.kubernetes.objects import Listing
from tryitnow.kubernetes.store import Store


@dataclass(frozen=True)
class _Report:
    heartbeat_time: datetime
    """When the agent reported, by its node's clock."""

    observed_at: float
    """When the controller first saw that, by its own monotonic clock."""

    number: int
    """How many reports were seen, this one included."""


class AgentStore(Store[NodeAgent]):
    """The newest known state of each agent, and when each was last heard of.

    Nodes' clocks may differ from the controller's by more than ``LOST_AFTER``, and any wall clock
    may be set. A report is a sign of life because it differs from the last one; its time does not
    matter. kube-controller-manager judges the Leases of nodes in the same way. An agent
    that reported before this controller watched has ``LOST_AFTER`` to report again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know no agent yet; ``clock`` counts seconds and is never set."""
        super().__init__(NodeAgent)
        self._clock = clock
        self._reports: dict[Key, _Report] = {}

    def update(self, resource: NodeAgent) -> NodeAgent:
        """Take in an agent; an older state than the known one is ignored."""
        newest = super().update(resource)
        heartbeat = newest.status.heartbeat
        known = self._reports.get(newest.key)
        if heartbeat is not None and (known is None or known.heartbeat_time != heartbeat):
            number = known.number + 1 if known else 1
            self._reports[newest.key] = _Report(heartbeat, self._clock(), number)
        return newest

    def is_lost(self, key: Key) -> bool:
        """Whether nothing new came from the agent for too long, or nothing ever."""
        report = self._reports.get(key)
        if report is None:
            return True
        return self._clock() - report.observed_at > LOST_AFTER.total_seconds()

    def heartbeat_time(self, key: Key) -> datetime | None:
        """Return when an agent last reported by its node's own clock."""
        report = self._reports.get(key)
        return report.heartbeat_time if report is not None else None

    def reports(self, key: Key) -> int:
        """Return how many reports of an agent were seen."""
        report = self._reports.get(key)
        return report.number if report is not None else 0

    def forget(self, key: Key, uid: str | None = None) -> None:
        """Drop an agent that was deleted; a namesake with another UID stays."""
        super().forget(key, uid)
        if self.get(key) is None:
            self._reports.pop(key, None)

    def replace(self, listing: Listing[NodeAgent]) -> set[Key]:
        """Make a fresh list the truth; return the keys that were known and are gone."""
        gone = super().replace(listing)
        for key in gone:
            self._reports.pop(key, None)
        return gone
