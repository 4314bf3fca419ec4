"""``DemoInstance``: one person's demo of a Checkpoint's application."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue

from tryitnow.api.checkpoint import Lifetimes, OnCrash
from tryitnow.api.checkpointrevision import checkpoint_revision_name
from tryitnow.api.duration import Duration, Lifetime
from tryitnow.api.meta import (
    GROUP,
    ConditionedStatus,
    Conditions,
    CutTo,
    Generation,
    Key,
    Line,
    Message,
    Model,
    ObjectName,
    Resource,
    Time,
    find_condition,
)

RESET_ANNOTATION = f"{GROUP}/reset"
"""A new value of this annotation asks for a fresh demo with the same name and URL."""

_RESET = CutTo(1024)
"""The status keeps that much of the annotation's value, and that much of it counts."""


REVISION_UNCONFIRMED = "RevisionUnconfirmed"
"""Reason of Ready: the agent starts nothing from the revision, as nobody but the controller says
that an author wrote it."""


class StartPolicy(StrEnum):
    """Which ways of starting are allowed."""

    PREFER_RESTORE = "PreferRestore"
    RESTORE_ONLY = "RestoreOnly"
    COLD_START = "ColdStart"


class StartedBy(StrEnum):
    """How a demo was started."""

    WARM = "Warm"
    RESTORE = "Restore"
    COLD_START = "ColdStart"
    RESTART = "Restart"


class FallbackReason(StrEnum):
    """The reason for a cold start although a restore was allowed."""

    CRIU_NOT_AVAILABLE = "CRIUNotAvailable"
    """CRIU is missing, broken or switched off on the node."""

    NOT_READY_HERE = "NotReadyHere"
    """No test restore of the revision has answered on the node yet."""

    ARCHIVE_DAMAGED = "ArchiveDamaged"
    """The node's archive no longer has its digest."""

    RESTORE_FAILED = "RestoreFailed"
    """Podman or CRIU could not restore it."""

    RESTORE_NOT_READY = "RestoreNotReady"
    """It was restored, but did not become ready within spec.readiness.restoreTimeout."""

    HOOK_FAILED = "HookFailed"
    """It was restored, but an afterRestore hook failed."""

    NODE_LIMIT = "NodeLimit"
    """A limit of the node, such as a full disk, prevented the restore."""


class CheckpointReference(Model):
    """The Checkpoint to start from, in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the Checkpoint, in the namespace of the instance."""


def _immutable(field: str) -> dict[str, JsonValue]:
    return {
        "rule": f"has(self.{field}) == has(oldSelf.{field})"
        f" && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        "message": f"{field} is immutable: the demo was started with it;"
        " create another DemoInstance instead",
    }


class DemoInstanceSpec(Model):
    """The requested demo."""

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
    """The Checkpoint to start from. Immutable."""

    ttl: Lifetime | None = None
    """Lifetime of the instance from its creation, at most 365d; then the controller deletes it. A
    longer ttl extends the life, up to spec.limits.maxTtl of the Checkpoint. Defaults to
    spec.limits.defaultTtl of the Checkpoint, and to no limit without that."""

    start: StartPolicy = StartPolicy.PREFER_RESTORE
    """PreferRestore restores, and starts cold where that is impossible. RestoreOnly waits until a
    node can restore and fails rather than start cold. ColdStart never restores. Immutable.
    Defaults to PreferRestore."""

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
    """Host name, with a port if needed, that clients use for the demo. afterRestore hooks get it as
    TRYITNOW_HOST. The requester routes it to status.url. Immutable. Defaults to the address and
    port in status.url."""

    parameters: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        default={}, json_schema_extra={"maxProperties": 64}
    )
    """Values for the parameters that the Checkpoint declares in its spec.parameters. Immutable."""

    on_crash: OnCrash | None = None
    """The reaction to the end of a container of the demo. Keep starts the container again with its
    files. Reset replaces the demo by a fresh one with the same name and URL. Defaults to the
    Checkpoint's spec.onCrash."""


class DemoInstancePhase(StrEnum):
    """How far a demo is, for people; programs read the conditions."""

    PENDING = "Pending"
    STARTING = "Starting"
    READY = "Ready"
    RESTARTING = "Restarting"
    NOT_ANSWERING = "NotAnswering"
    FAILED = "Failed"
    TERMINATING = "Terminating"


_Port = Annotated[int, Field(ge=1, le=65535)]


class PublishedPort(Model):
    """A port of the application, and the port of the node that leads to it."""

    container_port: _Port
    """Port inside the container."""

    host_port: _Port
    """Port of the node."""


class Timings(Model):
    """Duration of each step of the last start. Steps that were not needed are absent."""

    bind: Duration | None = None
    """The controller's choice of a node, from the moment when a node had room."""

    claim: Duration | None = None
    """Claiming a warm sandbox. Where the demo was restored instead: the time lost on warm
    sandboxes that did not answer."""

    queue: Duration | None = None
    """Waiting for other restores on the node: as many run at once as it has cores."""

    prepare: Duration | None = None
    """Making the sandbox, and pulling images for a cold start."""

    restore: Duration | None = None
    """Podman and CRIU restoring the demo."""

    criu: Duration | None = None
    """CRIU's own part of the restore."""

    cold_start: Duration | None = None
    """Podman creating and starting fresh containers."""

    restart: Duration | None = None
    """Podman starting the containers again with their files."""

    probe: Duration | None = None
    """From the containers running until the application was ready."""

    hooks: Duration | None = None
    """The afterRestore hooks."""

    fallback: Duration | None = None
    """Time lost on a restore that failed, before the cold start."""

    total: Duration | None = None
    """From the choice of a node until ready. `readyAt` minus `metadata.creationTimestamp` includes
    the time before, in which the demo waited for room or for a node that can restore it."""


Percent = Annotated[int, Field(ge=0, le=100)]


class Pressure(Model):
    """Share of a time in which processes of the node waited, in percent (PSI of the kernel)."""

    cpu: Percent = 0
    """Waited for a processor."""

    io: Percent = 0
    """Waited for a disk."""

    memory: Percent = 0
    """Waited for memory: the node reads back what it had to drop or to swap out."""


class DemoInstanceStatus(ConditionedStatus):
    """The state of the demo. The controller writes it until the demo is bound, then its node's
    agent."""

    observed_generation: Generation | None = None
    """The metadata.generation that this status describes."""

    phase: DemoInstancePhase = DemoInstancePhase.PENDING
    """Pending, Starting, Ready, Restarting, NotAnswering, Failed or Terminating: for people."""

    conditions: Conditions = ()
    """Ready: the application answers at the URL. Stalled: the demo will not become ready until a
    person acts. DataLost: files of the demo are gone, and the message gives the reason. EgressOpen:
    the demo may connect to all that spec.network.egress of its revision names. TtlShortened: the
    demo ends sooner than spec.ttl says, as its Checkpoint limits it."""

    node_name: ObjectName | None = None
    """Node that runs the demo."""

    revision: Line | None = None
    """Identity of the CheckpointRevision that it is started from, for its whole life."""

    on_crash: OnCrash | None = None
    """The reaction to the end of a container: spec.onCrash, or the Checkpoint's."""

    lifetimes: Lifetimes | None = None
    """The Checkpoint's limits of the lifetime, as they were when the demo was bound."""

    host_port: _Port | None = None
    """Port of the node that leads to the application."""

    ports: Annotated[tuple[PublishedPort, ...], Field(max_length=256)] = ()
    """All published ports."""

    url: Annotated[str, Field(max_length=2048)] | None = None
    """URL of the application, for any machine that reaches the node."""

    started_by: StartedBy | None = None
    """Method of the last start: Warm, Restore, ColdStart or Restart."""

    fallback_reason: FallbackReason | None = None
    """Reason for a cold start although a restore was allowed."""

    fallback_message: Message | None = None
    """Reason for the cold start, in a sentence."""

    timings: Timings | None = None
    """Duration of each step of the last start."""

    pressure: Pressure | None = None
    """Share of the last start in which processes of the node waited. Absent where the kernel does
    not measure it."""

    restarts: Annotated[int, Field(ge=0, le=1 << 31)] = 0
    """Number of restarts because a container had ended."""

    resets: Annotated[int, Field(ge=0, le=1 << 31)] = 0
    """Number of resets to a fresh demo."""

    reset_handled: Annotated[str, _RESET] | None = None
    """The value of the annotation tryitnow.dev/reset at the last reset."""

    node_boot_id: Annotated[str, Field(max_length=64)] | None = None
    """Boot of the node in which the demo was last started, as nodeInfo.bootID of the Node has it.
    After another boot, all of its containers have ended."""

    expires_at: Time | None = None
    """Time at which the controller deletes it."""

    ready_at: Time | None = None
    """Time at which the demo became ready for the first time since it was started or reset. Its
    files are kept from then on."""


class DemoInstance(Resource):
    """One person's demo of a Checkpoint's application."""

    kind_name: ClassVar[str] = "DemoInstance"
    plural: ClassVar[str] = "demoinstances"

    kind: Literal["DemoInstance"] = "DemoInstance"

    spec: DemoInstanceSpec
    """The requested demo."""

    status: DemoInstanceStatus = DemoInstanceStatus()
    """The state of the demo."""

    @property
    def checkpoint_key(self) -> Key:
        """The Checkpoint that it is a demo of."""
        return Key(self.metadata.namespace, self.spec.checkpoint_ref.name)

    @property
    def revision_key(self) -> Key | None:
        """The CheckpointRevision that it is started from; None before it is bound."""
        if self.status.revision is None:
            return None
        name = checkpoint_revision_name(self.spec.checkpoint_ref.name, self.status.revision)
        return Key(self.metadata.namespace, name)

    @property
    def was_ready(self) -> bool:
        """Whether it has been ready since it was started or reset: it may hold a person's data."""
        return self.status.ready_at is not None

    @property
    def is_unconfirmed(self) -> bool:
        """Whether its agent does not start it from its revision, and it has no data."""
        ready = find_condition(self.status.conditions, "Ready")
        is_refused = ready is not None and ready.reason == REVISION_UNCONFIRMED
        return is_refused and not self.was_ready

    @property
    def reset_request(self) -> str | None:
        """What the annotation says that asks for a fresh one, as the status can keep it."""
        asked = self.metadata.annotations.get(RESET_ANNOTATION)
        return _RESET.cut(asked) if asked is not None else None

    @property
    def wants_reset(self) -> bool:
        """Whether a person asked for a fresh one, and has not got it yet."""
        return self.reset_request not in {None, self.status.reset_handled}

    def expires_at(self, lifetimes: Lifetimes | None = None) -> datetime | None:
        """Return the moment from which it is to be deleted; None where it has no end.

        ``lifetimes`` are those of its Checkpoint, for one that is not bound yet.
        """
        created = self.metadata.creation_timestamp
        ttl = (self.status.lifetimes or lifetimes or Lifetimes()).effective(self.spec.ttl)
        if ttl is None or created is None:
            return None
        try:
            return created + ttl
        except OverflowError:
            return None  # beyond the year 9999
