"""The agents as the controller sees them: how long each has been silent, by one clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tryitnow.api.meta import Key
from tryitnow.api.nodeagent import LOST_AFTER, NodeAgent
from tryitnow.kubernetes.objects import Listing
from tryitnow.kubernetes.store import Store


@dataclass(frozen=True)
class _Report:
    mark: str
    """Its heartbeat, as the API server has it."""

    heartbeat_time: datetime | None
    """When the agent reported, by its node's clock; None where the report cannot be read."""

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
        if heartbeat is not None:
            self._observe(newest.key, heartbeat.isoformat(), heartbeat)
        return newest

    def ingest(self, body: Mapping[str, Any]) -> NodeAgent | None:
        """Take in an agent as the API server sent it; one that cannot be read lives as well."""
        readable = super().ingest(body)
        if readable is None:
            self._observe_unreadable(NodeAgent.key_of(body["metadata"]))
        return readable

    def _observe_unreadable(self, key: Key) -> None:
        unreadable = self.unreadable(key)
        if unreadable is not None and (mark := unreadable.text_at("status", "heartbeat")):
            self._observe(key, mark, None)

    def _observe(self, key: Key, mark: str, heartbeat_time: datetime | None) -> None:
        known = self._reports.get(key)
        if known is None or known.mark != mark:
            number = known.number + 1 if known else 1
            self._reports[key] = _Report(mark, heartbeat_time, self._clock(), number)

    def is_lost(self, key: Key) -> bool:
        """Whether nothing new came from the agent for too long, or nothing ever."""
        report = self._reports.get(key)
        if report is None:
            return True
        return self._clock() - report.observed_at > LOST_AFTER.total_seconds()

    def seconds(self) -> float:
        """Return the time by which the silence of agents is measured."""
        return self._clock()

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
        if self.get(key) is None and self.unreadable(key) is None:
            self._reports.pop(key, None)

    def replace(self, listing: Listing[NodeAgent]) -> set[Key]:
        """Make a fresh list the truth; return the keys that were known and are gone."""
        gone = super().replace(listing)
        for key in gone:
            self._reports.pop(key, None)
        for key in listing.unreadable:
            self._observe_unreadable(key)
        return gone
