"""``NodeCheckpoint`` (internal): one revision of a Checkpoint on one node.

The controller writes its spec. The agent of that node writes its status.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from tryitnow.api.archive import MAX_BYTES, Archive, Images, Versions
from tryitnow.api.checkpoint import Pool
from tryitnow.api.checkpointrevision import MAX_NAME, Identity, checkpoint_revision_name
from tryitnow.api.duration import Duration
from tryitnow.api.meta import (
    ConditionedStatus,
    Conditions,
    Generation,
    Key,
    Message,
    Model,
    ObjectName,
    Resource,
)


class Source(Model):
    """An agent that has the archive."""

    node_name: ObjectName
    """Node of that agent."""

    url: Annotated[str, Field(max_length=2048)]
    """URL of the archive."""

    certificate: Annotated[str, Field(max_length=16384)]
    """PEM of the agent's certificate: the only trusted certificate for this URL."""


class Fetch(Model):
    """The archive to fetch from another node."""

    archive: Archive
    """Digest and size of the archive."""

    sources: Annotated[tuple[Source, ...], Field(max_length=16)] = ()
    """Agents that have it."""


class NodeCheckpointSpec(Model):
    """The revision that the node is to keep. Only the controller writes it."""

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

    checkpoint: ObjectName
    """Name of the Checkpoint, in the same namespace."""

    revision: Identity
    """Identity of the CheckpointRevision, which holds the definition."""

    node_name: ObjectName
    """Node that is to keep the revision."""

    fetch: Fetch | None = None
    """The archive to fetch, and its sources. Absent on the node that builds it."""

    pool: Pool = Pool()
    """This node's share of the Checkpoint's warm sandboxes."""


class NodeCheckpointPhase(StrEnum):
    """How far a node is with a revision, for people; programs read the conditions."""

    PENDING = "Pending"
    BUILDING = "Building"
    FETCHING = "Fetching"
    PREPARING = "Preparing"
    VERIFYING = "Verifying"
    READY = "Ready"
    QUARANTINED = "Quarantined"
    FAILED = "Failed"


ON_THE_WAY = frozenset(
    {
        NodeCheckpointPhase.PENDING,
        NodeCheckpointPhase.FETCHING,
        NodeCheckpointPhase.PREPARING,
        NodeCheckpointPhase.VERIFYING,
    }
)
"""Phases of a node that fetches a revision and does not have it yet."""


class NodeCheckpointStatus(ConditionedStatus):
    """The state of the revision on the node. Only that node's agent writes it."""

    observed_generation: Generation | None = None
    """The metadata.generation that this status describes."""

    phase: NodeCheckpointPhase = NodeCheckpointPhase.PENDING
    """Pending, Building, Fetching, Preparing, Verifying, Ready, Quarantined or Failed."""

    conditions: Conditions = ()
    """Ready: a test restore answered on this node, and demos can be restored here. The message
    gives the reason when it is False."""

    archive: Archive | None = None
    """The archive on the node."""

    images: Images = Field(default={})
    """Images of all containers by name, pinned, as the build on this node used them. Empty on
    nodes that fetched the archive."""

    verified_with: Versions | None = None
    """The node's software when a test restore last answered here."""

    build_duration: Duration | None = None
    """Duration of the build, from the first pull until the test restore answered."""

    restore_failures: Annotated[int, Field(ge=0, le=1 << 31)] = 0
    """Restores in a row that failed here. Two of them quarantine the archive."""

    warm_ready: Annotated[int, Field(ge=0, le=1 << 31)] = 0
    """Number of warm sandboxes that wait here to be claimed."""

    warm_message: Message | None = None
    """Reason why fewer warm sandboxes wait than spec.pool.warm asks for. Absent while they are
    being restored."""

    memory_bytes: Annotated[int, Field(ge=0, le=MAX_BYTES)] = 0
    """Memory that a restored demo fills, in bytes, read from the archive."""

    disk_bytes: Annotated[int, Field(ge=0, le=MAX_BYTES)] = 0
    """Disk that a demo fills when it starts, in bytes, measured in the unpacked archive."""

    progress: Message = ""
    """The agent's current step, for people."""


class NodeCheckpoint(Resource):
    """One revision of a Checkpoint on one node; internal, made by the controller."""

    kind_name: ClassVar[str] = "NodeCheckpoint"
    plural: ClassVar[str] = "nodecheckpoints"

    kind: Literal["NodeCheckpoint"] = "NodeCheckpoint"

    spec: NodeCheckpointSpec
    """The revision that the node is to keep."""

    status: NodeCheckpointStatus = NodeCheckpointStatus()
    """The state of the revision on the node."""

    @property
    def checkpoint_key(self) -> Key:
        """The Checkpoint that it belongs to."""
        return Key(self.metadata.namespace, self.spec.checkpoint)

    @property
    def revision_key(self) -> Key:
        """The CheckpointRevision that holds the definition."""
        name = checkpoint_revision_name(self.spec.checkpoint, self.spec.revision)
        return Key(self.metadata.namespace, name)

    @property
    def is_ready(self) -> bool:
        """Whether demos can be restored from it on its node right now."""
        return self.status.phase is NodeCheckpointPhase.READY and not self.is_deleting

    @property
    def claimable(self) -> int:
        """Number of warm sandboxes for demos: those beyond its share are about to be removed."""
        return min(self.status.warm_ready, self.spec.pool.warm)


def node_checkpoint_name(checkpoint: str, revision: str, node_name: str) -> str:
    """Return the one name that a revision of a Checkpoint has on a node.

    A node's name may have 253 characters; one that leaves no room for the rest is hashed.
    """
    name = f"{checkpoint}.{revision}.{node_name}"
    if len(name) <= MAX_NAME:
        return name
    return f"{checkpoint}.{revision}.{hashlib.sha256(node_name.encode()).hexdigest()[:16]}"
