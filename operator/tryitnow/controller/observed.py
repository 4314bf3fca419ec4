"""The facts that the plan for a Checkpoint is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.doubt import doubt
from tryitnow.controller.nodes import NodeState
from tryitnow.controller.refusals import Attempt, Refusal


def wanted_revision(checkpoint: Checkpoint) -> str:
    """Return the identity of the revision that a Checkpoint's spec describes."""
    return checkpoint.spec.definition().identity(checkpoint.metadata.uid)


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
    revisions: Mapping[str, CheckpointRevision]
    """Its CheckpointRevisions, by identity."""

    node_checkpoints: list[NodeCheckpoint]
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
        """Identity of the revision that the spec describes."""
        return wanted_revision(self.checkpoint)

    def label(self, identity: str) -> str:
        """Return how people call a revision: by its number, where it is known."""
        revision = self.revisions.get(identity)
        return str(revision.spec.number) if revision is not None else identity

    @cached_property
    def gone(self) -> list[NodeCheckpoint]:
        """NodeCheckpoints on nodes that left the cluster: one that is only silent may come back."""
        return [c for c in self.node_checkpoints if c.spec.node_name not in self.architectures]

    @cached_property
    def present(self) -> list[NodeCheckpoint]:
        """NodeCheckpoints on nodes of the cluster."""
        return [c for c in self.node_checkpoints if c.spec.node_name in self.architectures]

    def good(self, revision: str | None) -> list[NodeCheckpoint]:
        """Return the NodeCheckpoints that a revision can be restored from."""
        return [
            node_checkpoint
            for node_checkpoint in self.present
            if node_checkpoint.spec.revision == revision
            and node_checkpoint.is_ready
            and node_checkpoint.status.archive is not None
            and not self.doubt(node_checkpoint)
        ]

    def doubt(self, node_checkpoint: NodeCheckpoint) -> str:
        """Say why an agent's report about an archive is not believed; empty where it is."""
        revision = self.revisions.get(node_checkpoint.spec.revision)
        return doubt(node_checkpoint, revision.definition if revision is not None else None)
