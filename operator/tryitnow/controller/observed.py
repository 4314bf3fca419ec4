"""The facts that the plan for a Checkpoint is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.nodes import NodeState
from tryitnow.controller.refusals import Attempt, Refusal


@dataclass(frozen=True)
class PlannedEvent:
    """An Event to record about the Checkpoint."""

    reason: str
    note: str
    is_warning: bool = False


@dataclass(frozen=True)
class Observed:
    """The cluster at one moment, as far as it concerns one Checkpoint."""

    checkpoint: Checkpoint
    copies: list[NodeCheckpoint]
    """Its NodeCheckpoints, of all revisions."""

    selected: list[NodeState]
    """Nodes that it selects."""

    nodes: Mapping[str, NodeState]
    """All nodes with an agent, by name."""

    architectures: Mapping[str, str | None]
    """All nodes of the cluster, and the architecture of each, where its label says so."""

    starting: frozenset[str]
    """Revisions that instances are being started from."""

    at: datetime
    """The present, by the API server's clock."""

    refused: Mapping[Attempt, Refusal] = field(default_factory=dict)
    """Writes that the API server refused, and that are not tried again yet."""

    @cached_property
    def wanted(self) -> str:
        """The revision that the spec describes."""
        return self.checkpoint.spec.blueprint().revision()

    @cached_property
    def gone(self) -> list[NodeCheckpoint]:
        """Copies on nodes that left the cluster: one that is only silent may come back."""
        return [c for c in self.copies if c.spec.node_name not in self.architectures]

    @cached_property
    def present(self) -> list[NodeCheckpoint]:
        """Copies on nodes of the cluster."""
        return [c for c in self.copies if c.spec.node_name in self.architectures]

    def good(self, revision: str | None) -> list[NodeCheckpoint]:
        """Return the copies that a revision can be restored from."""
        return [
            copy
            for copy in self.present
            if copy.spec.revision == revision
            and copy.is_prepared
            and copy.status.archive is not None
        ]
