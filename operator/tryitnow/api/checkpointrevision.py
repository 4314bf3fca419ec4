"""``CheckpointRevision``: one immutable definition of a Checkpoint, and the result of its build.

The controller makes it, writes its status, and deletes it when no demo, no node and no Checkpoint
needs it any more. A demo refers to the revision that it was started from for its whole life.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from tryitnow.api.archive import Archive, Images
from tryitnow.api.definition import IDENTITY_DIGITS, Definition
from tryitnow.api.duration import Duration
from tryitnow.api.meta import (
    GROUP,
    ConditionedStatus,
    Conditions,
    Generation,
    Key,
    Model,
    ObjectName,
    Resource,
)

MAX_NAME = 253
"""Longest object name: a DNS subdomain (RFC 1123)."""

REVISION_FINALIZER = f"{GROUP}/in-use"
"""Held while a demo or a node refers to the revision: a namespace that is being deleted takes the
definition away last, after its hooks have run."""

Identity = Annotated[
    str, Field(max_length=IDENTITY_DIGITS, pattern=f"^[0-9a-f]{{{IDENTITY_DIGITS}}}$")
]


class CheckpointRevisionSpec(Model):
    """One definition of a Checkpoint. Immutable."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "self == oldSelf", "message": "a revision is immutable"}
            ]
        }
    )

    checkpoint: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the Checkpoint, in the same namespace."""

    checkpoint_uid: Annotated[str, Field(min_length=1, max_length=64)]
    """UID of the Checkpoint."""

    identity: Identity
    """Digest over the Checkpoint's UID and the definition."""

    number: Annotated[int, Field(ge=1, le=1 << 40)]
    """Revisions of a Checkpoint are counted from 1, for people."""

    definition: Definition
    """The application to start, checkpoint and restore."""


class CheckpointRevisionStatus(ConditionedStatus):
    """The result of the build. Only the controller writes it."""

    observed_generation: Generation | None = None
    """The metadata.generation that this status describes."""

    conditions: Conditions = ()
    """Built: the revision has been built, and a test restore answered."""

    images: Images = Field(default={})
    """Images of all containers by name, each pinned to the digest that it had at the build. Cold
    starts and later builds of this revision use these."""

    archive: Archive | None = None
    """The archive that demos are restored from."""

    built_by: ObjectName = ""
    """Node that built the archive."""

    build_duration: Duration | None = None
    """Duration of the build, from the first pull until the test restore answered."""


class CheckpointRevision(Resource):
    """One immutable definition of a Checkpoint with the digests of its images."""

    kind_name: ClassVar[str] = "CheckpointRevision"
    plural: ClassVar[str] = "checkpointrevisions"

    kind: Literal["CheckpointRevision"] = "CheckpointRevision"

    spec: CheckpointRevisionSpec
    """One definition of a Checkpoint. Immutable."""

    status: CheckpointRevisionStatus = CheckpointRevisionStatus()
    """The result of the build."""

    @property
    def checkpoint_key(self) -> Key:
        """The Checkpoint that it is a revision of."""
        return Key(self.metadata.namespace, self.spec.checkpoint)

    @property
    def definition(self) -> Definition:
        """The application to start, checkpoint and restore."""
        return self.spec.definition

    def image_of(self, container: str) -> str | None:
        """Return the pinned image of a container; None before the first build."""
        return self.status.images.get(container)

    @property
    def is_consistent(self) -> bool:
        """Whether the definition is the one that the identity was made from."""
        return self.definition.identity(self.spec.checkpoint_uid) == self.spec.identity


def checkpoint_revision_name(checkpoint: str, identity: str) -> str:
    """Return the name of the object that holds a revision of a Checkpoint."""
    name = f"{checkpoint}-{identity}"
    if len(name) <= MAX_NAME:
        return name
    return f"{hashlib.sha256(checkpoint.encode()).hexdigest()[:IDENTITY_DIGITS]}-{identity}"
