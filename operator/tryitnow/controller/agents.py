"""The agents as the controller sees them: how long each has been silent, by one clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tryitnow.api.meta import Key, now
from tryitnow.api.nodeagent import LOST_AFTER, NodeAgent
from tryitnow.kubernetes.objects import Listing
from tryitnow.kubernetes.store import Store

FIRST_CHANCE = timedelta(seconds=20)
"""For an agent to report after this controller began to watch: two of its intervals."""


@dataclass(frozen=True)
class _Report:
    told: datetime
    """Heartbeat, by the node's clock."""

    heard: datetime
    """When it was first seen, by the controller's."""


class AgentStore(Store[NodeAgent]):
    """The newest known state of each agent, its heartbeat by the controller's own clock.

    Nodes' clocks may differ from the controller's by more than ``LOST_AFTER``. A report is a sign
    of life because it is another than the last, not because of what it says of the time; leases of
    nodes are judged so by kube-controller-manager as well.
    """

    def __init__(self) -> None:
        super().__init__(NodeAgent)
        self._reports: dict[Key, _Report] = {}

    def update(self, resource: NodeAgent) -> NodeAgent:
        """Take in an agent; an older state than the known one is ignored."""
        told = resource.status.heartbeat
        if told is None:
            return super().update(resource)
        report = self._reports.get(resource.key)
        if report is None or report.told != told:
            report = _Report(told, now() if report is not None else _first_heard(told))
            self._reports[resource.key] = report
        status = resource.status.model_copy(update={"heartbeat": report.heard})
        return super().update(resource.model_copy(update={"status": status}))

    def told(self, key: Key) -> datetime | None:
        """Return when an agent last reported by its node's own clock."""
        report = self._reports.get(key)
        return report.told if report is not None else None

    def forget(self, key: Key, uid: str | None = None) -> None:
        """Drop an agent that was deleted; a namesake with another UID stays."""
        super().forget(key, uid)
        self._drop_reports()

    def replace(self, listing: Listing[NodeAgent]) -> set[Key]:
        """Make a fresh list the truth; return the keys that were known and are gone."""
        gone = super().replace(listing)
        self._drop_reports()
        return gone

    def _drop_reports(self) -> None:
        self._reports = {key: r for key, r in self._reports.items() if self.get(key) is not None}


def _first_heard(told: datetime) -> datetime:
    """When to say that an agent was heard of which reported before this controller watched.

    Long ago may mean that it is dead, that its clock is wrong, or that no report came through: some
    time to report shows which.
    """
    present = now()
    return max(min(told, present), present - LOST_AFTER + FIRST_CHANCE)
