"""The used capacity of the nodes: counted as objects come, change and go.

A bind must not look through all demos of the cluster. Each change of a store updates the counts, so
a bind costs the same with ten thousand demos as with ten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from tryitnow.api.archive import Archive
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, StartedBy
from tryitnow.api.meta import Key, Resource, find_condition
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.controller.agents import AgentStore

BOUND = "Bound"
"""Reason of the condition Ready from the bind until the agent has something to say."""

UNDER_WAY = frozenset({DemoInstancePhase.PENDING, DemoInstancePhase.STARTING})
"""Phases of an instance that is still to be started."""

FILLING_DISK = frozenset(
    {NodeCheckpointPhase.PENDING, NodeCheckpointPhase.FETCHING, NodeCheckpointPhase.PREPARING}
)
"""Phases of a NodeCheckpoint whose node still writes the archive's files."""

SETTLED_AFTER_REPORTS = 2
"""Reports after which an agent surely knows the memory of a demo, whatever its node's clock."""

R = TypeVar("R", bound=Resource)
G = TypeVar("G", bound=Hashable)


@dataclass(frozen=True)
class Usage:
    """The used capacity of the nodes, from the view of one Checkpoint's instance."""

    instances: Mapping[str, int] = field(default_factory=dict)
    """Instances that are bound there."""

    claiming: Mapping[str, int] = field(default_factory=dict)
    """Those of the Checkpoint in question that are on their way to a warm sandbox."""

    reserved_bytes: Mapping[str, int] = field(default_factory=dict)
    """Memory that instances will fill of which the agent's last report does not know."""

    warm_bytes: Mapping[str, int] = field(default_factory=dict)
    """Memory of warm sandboxes that nobody is about to claim: they give way to demos."""

    of_namespace: Mapping[str, int] = field(default_factory=dict)
    """Instances of the same namespace that are bound there."""


def memory_bytes(node_checkpoint: NodeCheckpoint) -> int:
    """Return the memory that a demo fills, as the node or the build found it."""
    archive = node_checkpoint.status.archive
    return max(
        node_checkpoint.status.memory_bytes, archive.memory_bytes if archive is not None else 0
    )


def archive_disk_bytes(archive: Archive | None) -> int:
    """Return the disk that an archive takes on a node: the file and its unpacked files."""
    return archive.size_bytes + archive.unpacked_bytes if archive is not None else 0


def is_starting(instance: DemoInstance) -> bool:
    """Whether an instance is being started: bound, and its agent waits for nothing."""
    if instance.status.phase not in UNDER_WAY:
        return False
    ready = find_condition(instance.status.conditions, "Ready")
    return instance.status.node_name is None or ready is None or ready.reason == BOUND


class Largest(Generic[R, G]):
    """The largest value that any object of a group has."""

    def __init__(self, group_of: Callable[[R], G], value_of: Callable[[R], int]) -> None:
        self._group_of = group_of
        self._value_of = value_of
        self._values: dict[G, Counter[int]] = {}

    def changed(self, _key: Key, before: R | None, after: R | None) -> None:
        """Take note of a change of the store."""
        if before is not None:
            group, value = self._group_of(before), self._value_of(before)
            values = self._values[group]
            values[value] -= 1
            if not values[value]:
                del values[value]
            if not values:
                del self._values[group]
        if after is not None:
            self._values.setdefault(self._group_of(after), Counter())[self._value_of(after)] += 1

    def get(self, group: G) -> int:
        """Return the largest value of a group; 0 for one that has no object."""
        # As many as there are different values: mostly one.
        return max(self._values.get(group, ()), default=0)


@dataclass(frozen=True)
class _Filling:
    checkpoint: Key
    ready_at: datetime
    reports: int
    """Reports of the agent that had been seen when the instance became ready."""


class Settling:
    """Instances that run and fill memory of which their agent's last report may not know."""

    def __init__(self, agents: AgentStore) -> None:
        self._agents = agents
        self._by_node: dict[str, dict[Key, _Filling]] = {}

    def changed(self, key: Key, before: DemoInstance | None, after: DemoInstance | None) -> None:
        """Take note of a change of the store."""
        known = None
        if before is not None and before.status.node_name is not None:
            known = self._by_node.get(before.status.node_name, {}).pop(key, None)
        if after is None or after.status.node_name is None:
            return
        status, node = after.status, after.status.node_name
        was_known = before is not None and before.status.ready_at == status.ready_at
        if status.ready_at is None or is_starting(after) or (was_known and known is None):
            return
        if status.started_by is StartedBy.WARM:
            return  # it had filled its memory long before
        reports = known.reports if known and was_known else self._agents.reports(Key("", node))
        filling = _Filling(after.checkpoint_key, status.ready_at, reports)
        self._by_node.setdefault(node, {})[key] = filling

    def on(self, node: str) -> list[Key]:
        """Return the Checkpoints of those on a node that its agent does not know of yet."""
        known = self._by_node.get(node, {})
        agent = Key("", node)
        heartbeat, reports = self._agents.heartbeat_time(agent), self._agents.reports(agent)
        for key, filling in list(known.items()):
            # Both times are by the node's clock, which may have been set in between.
            if (heartbeat is not None and heartbeat > filling.ready_at) or (
                reports - filling.reports >= SETTLED_AFTER_REPORTS
            ):
                del known[key]
        return [filling.checkpoint for filling in known.values()]
