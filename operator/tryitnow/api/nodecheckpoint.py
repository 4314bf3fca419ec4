"""``NodeCheckpoint`` (internal): one revision of a Checkpoint on one node.

The controller writes its spec, the agent of that node its status. Nobody else touches it.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import ConfigDict

from tryitnow.api.checkpoint import Archive, Blueprint, Pool
from tryitnow.api.duration import Duration
from tryitnow.api.meta import ConditionedStatus, Conditions, Key, Model, Resource

MAX_NAME = 253
"""Longest object name: a DNS subdomain (RFC 1123)."""


class Source(Model):
    """An agent that has the archive."""

    node_name: str
    """Node of that agent."""

    url: str
    """Where the archive is to be had."""

    certificate: str
    """PEM of the agent's certificate: the only one that is trusted for this URL."""


class Fetch(Model):
    """The archive to copy from another node."""

    archive: Archive
    """What the copy must be, to the byte."""

    sources: tuple[Source, ...] = ()
    """Agents that have it."""


class NodeCheckpointSpec(Model):
    """What the node is to hold. Written by the controller only."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "self.nodeName == oldSelf.nodeName && self.revision == oldSelf.revision"
                    " && self.checkpoint == oldSelf.checkpoint",
                    "message": "checkpoint, revision and nodeName are immutable",
                }
            ]
        }
    )

    checkpoint: str
    """Name of the Checkpoint, in the same namespace."""

    revision: str
    """Revision of the Checkpoint."""

    node_name: str
    """Node that is to hold it."""

    blueprint: Blueprint
    """The frozen application's definition, as it was when this revision began."""

    fetch: Fetch | None = None
    """Where to copy the archive from. Absent on the node that builds it."""

    pool: Pool = Pool()
    """This node's share of the Checkpoint's warm copies."""


class NodeCheckpointPhase(StrEnum):
    """Where a copy stands."""

    PENDING = "Pending"
    BUILDING = "Building"
    VERIFYING = "Verifying"
    DOWNLOADING = "Downloading"
    PREPARED = "Prepared"
    QUARANTINED = "Quarantined"
    FAILED = "Failed"


class NodeCheckpointStatus(ConditionedStatus):
    """What the node holds. Written by that node's agent only."""

    observed_generation: int | None = None
    """The metadata.generation that this status speaks of."""

    phase: NodeCheckpointPhase = NodeCheckpointPhase.PENDING
    """Pending, Building, Verifying, Downloading, Prepared, Quarantined or Failed."""

    conditions: Conditions = ()
    """Ready: this node can thaw it. Stalled: the build failed for good on this node."""

    archive: Archive | None = None
    """The archive that lies on the node."""

    verified: bool = False
    """Whether a test restore of this archive answered, here or where it was built."""

    build_duration: Duration | None = None
    """How long the build took, from the first pull to verified."""

    restore_failures: int = 0
    """Restores in a row that failed here; two of them quarantine the copy."""

    warm_ready: int = 0
    """Number of warm copies that wait here to be claimed."""

    warm_message: str | None = None
    """Why fewer wait than are wanted, where that is no matter of moments."""

    memory_bytes: int = 0
    """Memory that a copy of it fills when it is thawed, as the node found on preparing it."""

    disk_bytes: int = 0
    """Disk that a demo of it fills when it starts, as the node found on preparing it."""

    progress: str = ""
    """What is being done right now, for people."""


class NodeCheckpoint(Resource):
    """One revision of a Checkpoint on one node; internal, made by the controller."""

    kind_name: ClassVar[str] = "NodeCheckpoint"
    plural: ClassVar[str] = "nodecheckpoints"

    kind: Literal["NodeCheckpoint"] = "NodeCheckpoint"

    spec: NodeCheckpointSpec
    """What the node is to hold."""

    status: NodeCheckpointStatus = NodeCheckpointStatus()
    """What the node holds."""

    @property
    def checkpoint_key(self) -> Key:
        """The Checkpoint that it is a copy of."""
        return Key(self.metadata.namespace, self.spec.checkpoint)

    @property
    def is_prepared(self) -> bool:
        """Whether its node can thaw it right now."""
        return self.status.phase is NodeCheckpointPhase.PREPARED and not self.is_deleting

    @property
    def claimable(self) -> int:
        """Number of warm copies that wait for a demo: those beyond its share are about to go."""
        return min(self.status.warm_ready, self.spec.pool.warm)


def node_checkpoint_name(checkpoint: str, revision: str, node_name: str) -> str:
    """Return the one name that a revision of a Checkpoint has on a node.

    A node's name may have 253 characters; one that leaves no room for the rest is hashed.
    """
    name = f"{checkpoint}.{revision}.{node_name}"
    if len(name) <= MAX_NAME:
        return name
    return f"{checkpoint}.{revision}.{hashlib.sha256(node_name.encode()).hexdigest()[:16]}"
