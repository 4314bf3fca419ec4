"""``DemoInstance``: one person's private copy of a Checkpoint's application."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue

from tryitnow.api.duration import Duration
from tryitnow.api.meta import ConditionedStatus, Conditions, Key, Model, Resource, Time


class StartPolicy(StrEnum):
    """Which ways of starting are allowed."""

    PREFER_RESTORE = "PreferRestore"
    RESTORE_ONLY = "RestoreOnly"
    COLD_START = "ColdStart"


class StartedBy(StrEnum):
    """Which way of starting it was."""

    WARM = "Warm"
    RESTORE = "Restore"
    COLD_START = "ColdStart"


class RestoredFrom(StrEnum):
    """What a thawed copy was read from."""

    PREPARED = "Prepared"
    """Pages and root file system that the node had unpacked ahead of time: the quick way."""

    ARCHIVE = "Archive"
    """The exported archive, where nothing was prepared or the quick way failed."""


class FallbackReason(StrEnum):
    """Why an instance that could have been thawed was started cold."""

    CRIU_NOT_AVAILABLE = "CRIUNotAvailable"
    """CRIU is missing, broken or switched off on the node."""

    NO_COPY = "NoCopy"
    """No node holds a verified copy (yet)."""

    COPY_CORRUPT = "CopyCorrupt"
    """The node's copy no longer had the digest that it must have."""

    RESTORE_FAILED = "RestoreFailed"
    """Podman or CRIU could not thaw it."""

    RESTORE_NOT_READY = "RestoreNotReady"
    """It was thawed, but did not become ready in its deadline."""

    HOOK_FAILED = "HookFailed"
    """It was thawed, but an afterRestore hook failed."""


class CheckpointReference(Model):
    """The Checkpoint to take a copy of, in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the Checkpoint, in the namespace of the instance."""


def _immutable(field: str) -> dict[str, JsonValue]:
    return {
        "rule": f"has(self.{field}) == has(oldSelf.{field})"
        f" && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        "message": f"{field} is immutable: the copy was given it when it started;"
        " create another DemoInstance instead",
    }


class DemoInstanceSpec(Model):
    """What somebody asks for."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "self.checkpointRef == oldSelf.checkpointRef",
                    "message": "is immutable; create another DemoInstance instead",
                    "fieldPath": ".checkpointRef",
                },
                {
                    "rule": "has(self.start) == has(oldSelf.start)"
                    " && (!has(self.start) || self.start == oldSelf.start)",
                    "message": "start is immutable; create another DemoInstance instead",
                },
                _immutable("host"),
                _immutable("parameters"),
            ]
        }
    )

    checkpoint_ref: CheckpointReference
    """The Checkpoint to take a copy of. Immutable."""

    ttl: Duration | None = None
    """How long the instance lives, counted from its creation; then it is deleted. Raising it
    extends the life. Defaults to no limit."""

    start: StartPolicy = StartPolicy.PREFER_RESTORE
    """PreferRestore thaws, and starts cold where that is impossible. RestoreOnly waits for a copy
    and fails rather than start cold. ColdStart never thaws. Immutable. Defaults to
    PreferRestore."""

    host: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=259,
                pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?$",
            ),
        ]
        | None
    ) = None
    """Host name, with a port where it needs one, by which visitors call the demo: afterRestore
    hooks get it as TRYITNOW_HOST. Routing it to status.url is the caller's to do. Immutable.
    Defaults to the address and port in status.url."""

    parameters: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        default={}, json_schema_extra={"maxProperties": 64}
    )
    """Values for what the Checkpoint declares in its spec.parameters. Immutable."""


class DemoInstancePhase(StrEnum):
    """Where an instance stands, for people; programs read the conditions."""

    PENDING = "Pending"
    STARTING = "Starting"
    READY = "Ready"
    FAILED = "Failed"
    TERMINATING = "Terminating"


class PublishedPort(Model):
    """A port of the application and where the node publishes it."""

    container_port: int
    """Port inside the container."""

    host_port: int
    """Port of the node."""


class Timings(Model):
    """How long each step of the start took. Steps that were not needed are absent."""

    bind: Duration | None = None
    """The controller's choice of a node, once there was one to choose."""

    claim: Duration | None = None
    """Taking over a copy that waited in the warm pool; of a restore, what was lost on copies that
    waited and did not answer."""

    queue: Duration | None = None
    """Waiting for other restores on the node: as many run at once as it has cores."""

    prepare: Duration | None = None
    """Making the image present on the node."""

    restore: Duration | None = None
    """Podman and CRIU thawing the copy; from an archive, with the check of its digest."""

    criu: Duration | None = None
    """CRIU's own part of the restore."""

    cold_start: Duration | None = None
    """Podman creating and starting a fresh container."""

    probe: Duration | None = None
    """From the container running until the application was ready."""

    hooks: Duration | None = None
    """The afterRestore hooks."""

    fallback: Duration | None = None
    """Time lost on a thaw that did not work, before the cold start or the restore from the archive
    itself."""

    total: Duration | None = None
    """From the choice of a node until ready. What it waited before, for room or a copy, is not in
    it: `readyAt` less `metadata.creationTimestamp` has all, in whole seconds."""


class DemoInstanceStatus(ConditionedStatus):
    """What became of it. The controller writes until it is bound, then its node's agent."""

    observed_generation: int | None = None
    """The metadata.generation that this status speaks of."""

    phase: DemoInstancePhase = DemoInstancePhase.PENDING
    """Pending, Starting, Ready, Failed or Terminating: for people."""

    conditions: Conditions = ()
    """Ready: the application answers at the URL. Stalled: it will not become ready without
    somebody doing something."""

    node_name: str | None = None
    """Node that runs it."""

    revision: str | None = None
    """Revision of the Checkpoint that it was bound to; absent where no revision was ready."""

    host_port: int | None = None
    """Port of the node that leads to the application."""

    ports: tuple[PublishedPort, ...] = ()
    """All published ports."""

    url: str | None = None
    """Where the application answers, from any machine that reaches the node."""

    started_by: StartedBy | None = None
    """Warm, Restore or ColdStart."""

    restored_from: RestoredFrom | None = None
    """What a thawed copy was read from: Prepared, the quick way, or Archive."""

    fallback_reason: FallbackReason | None = None
    """Why it was started cold although a thaw was allowed."""

    fallback_message: str | None = None
    """The same in a sentence."""

    timings: Timings | None = None
    """How long each step of the start took."""

    restarts: int = 0
    """How often it had to be started again because its container was gone."""

    expires_at: Time | None = None
    """When it will be deleted."""

    ready_at: Time | None = None
    """Since when it is ready."""


class DemoInstance(Resource):
    """A private, running copy of a Checkpoint's application."""

    kind_name: ClassVar[str] = "DemoInstance"
    plural: ClassVar[str] = "demoinstances"

    kind: Literal["DemoInstance"] = "DemoInstance"

    spec: DemoInstanceSpec
    """What somebody asks for."""

    status: DemoInstanceStatus = DemoInstanceStatus()
    """What became of it."""

    @property
    def checkpoint_key(self) -> Key:
        """The Checkpoint that it is a demo of."""
        return Key(self.metadata.namespace, self.spec.checkpoint_ref.name)

    def expires_at(self) -> datetime | None:
        """Return the moment from which it is to be deleted; None without a ttl."""
        created = self.metadata.creation_timestamp
        if self.spec.ttl is None or created is None:
            return None
        try:
            return created + self.spec.ttl
        except OverflowError:
            return None  # beyond the year 9999
