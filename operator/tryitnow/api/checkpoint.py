"""``Checkpoint``: which application to checkpoint, when it is warm, and which nodes keep it."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue

from tryitnow.api.archive import Archive
from tryitnow.api.definition import CRIUOptions, Definition, Readiness, WarmUp
from tryitnow.api.duration import Duration, Lifetime
from tryitnow.api.hooks import Hooks, ParameterList
from tryitnow.api.meta import (
    ConditionedStatus,
    Conditions,
    Count,
    Generation,
    Line,
    Message,
    Model,
    ObjectName,
    Resource,
    Time,
)
from tryitnow.api.network import Network
from tryitnow.api.template import Template


class OnCrash(StrEnum):
    """The reaction to the end of a demo's container."""

    KEEP = "Keep"
    """The container is started again with its files, until that succeeds."""

    RESET = "Reset"
    """A fresh demo with the same name and URL replaces it."""


class Distribution(Model):
    """Which nodes keep the archive."""

    node_selector: dict[str, Annotated[str, Field(max_length=63)]] = Field(
        default={}, json_schema_extra={"maxProperties": 64}
    )
    """Labels that a node must have to build, keep and run this Checkpoint. Defaults to all nodes
    that run an agent."""

    copies: Annotated[int, Field(ge=1, le=10000)] | None = None
    """How many nodes keep the archive. Defaults to all selected nodes."""


class Pool(Model):
    """Warm sandboxes: demos that are restored ahead of time and wait to be claimed."""

    warm: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many warm sandboxes wait, over all nodes together. A DemoInstance claims one at once,
    and another takes its place. The nodes' memory limits the number. Set it, for example to 0,
    where a HorizontalPodAutoscaler is to scale it. Defaults to 0."""

    pause: bool = False
    """Whether warm sandboxes are paused, so that they use no processor time. A claim then takes
    about 10 ms longer. Defaults to false."""


class Lifetimes(Model):
    """The life of demos: how long without a wish, and how long at most."""

    default_ttl: Lifetime | None = None
    """Lifetime of a demo without spec.ttl, at most 365d. Defaults to maxTtl."""

    max_ttl: Lifetime | None = None
    """Longest lifetime of a demo, at most 365d. A demo whose spec.ttl is longer ends at this one,
    and has the condition TtlShortened. Defaults to no limit."""

    def effective(self, ttl: timedelta | None) -> timedelta | None:
        """Return the lifetime of a demo that asks for ``ttl``; None where it has no end."""
        wanted = ttl if ttl is not None else self.default_ttl
        if wanted is None or self.max_ttl is None:
            return wanted if wanted is not None else self.max_ttl
        return min(wanted, self.max_ttl)

    def shortens(self, ttl: timedelta | None) -> bool:
        """Whether a demo that asks for ``ttl`` gets less."""
        return ttl is not None and self.max_ttl is not None and ttl > self.max_ttl


class Limits(Lifetimes):
    """How many demos there are at once, and how long each lives. Of warm sandboxes,
    spec.pool.warm is the limit."""

    instances: Annotated[int, Field(ge=0, le=100000)] | None = None
    """Demos at once. One beyond them waits, with the reason LimitReached, until another ends. Demos
    that run when the limit is lowered stay. 0 lets no new demo start. Defaults to no limit."""


def _runs_in_a_member(hooks: str) -> dict[str, JsonValue]:
    return {
        "rule": f"!has(self.hooks) || !has(self.hooks.{hooks})"
        f" || self.hooks.{hooks}.all(h, !has(h.container)"
        " || self.template.containers.exists(c, c.name == h.container)"
        " || (has(self.template.initContainers) && self.template.initContainers.exists(c,"
        " has(c.restartPolicy) && c.name == h.container)))",
        "message": "container must be one of spec.template.containers[].name or a sidecar",
        "fieldPath": f".hooks.{hooks}",
    }


class CheckpointSpec(Model):
    """The application to checkpoint."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": (
                        "!has(self.readiness) || !has(self.readiness.httpGet)"
                        " || !has(self.readiness.httpGet.port)"
                        " || self.template.containers.exists(c, has(c.ports) && c.ports.exists(p,"
                        " p.containerPort == self.readiness.httpGet.port))"
                        " || (has(self.template.initContainers)"
                        " && self.template.initContainers.exists(c, has(c.restartPolicy)"
                        " && has(c.ports) && c.ports.exists(p,"
                        " p.containerPort == self.readiness.httpGet.port)))"
                    ),
                    "message": "must be one of the ports in spec.template.containers[].ports",
                    "fieldPath": ".readiness.httpGet.port",
                    "reason": "FieldValueInvalid",
                },
                _runs_in_a_member("beforeCheckpoint"),
                _runs_in_a_member("afterRestore"),
                _runs_in_a_member("beforeDelete"),
            ]
        }
    )

    template: Template
    """The containers and volumes of each demo. A change starts a new revision."""

    readiness: Readiness = Readiness()
    """The request that decides whether the application is ready."""

    warm_up: WarmUp | None = None
    """Requests that fill the application's caches before the checkpoint."""

    criu: CRIUOptions = CRIUOptions()
    """How CRIU checkpoints and restores."""

    distribution: Distribution = Distribution()
    """Which nodes keep the archive."""

    pool: Pool = Pool()
    """Warm sandboxes: demos that are restored ahead of time and wait to be claimed."""

    limits: Limits = Limits()
    """How many demos there are at once, and how long each lives. A demo keeps the lifetimes that
    were there when it was bound to its node."""

    hooks: Hooks = Hooks()
    """Commands to run before the checkpoint, after each start, and before a demo is deleted. A
    change starts a new revision."""

    parameters: ParameterList = ()
    """Parameters that a demo may set in its spec.parameters. A change starts a new revision."""

    network: Network = Network()
    """The connections that the containers may open to the outside: none, where it is not set. A
    change starts a new revision."""

    on_crash: OnCrash = OnCrash.KEEP
    """The reaction to the end of a demo's container. Keep starts the container again with
    its files. Reset replaces the demo by a fresh one with the same name and URL. The demo's own
    spec.onCrash overrides it. A demo keeps the value that it was started with. Defaults to Keep."""

    def definition(self) -> Definition:
        """Return the part that a revision is made from."""
        return Definition(
            template=self.template,
            readiness=self.readiness,
            warm_up=self.warm_up,
            criu=self.criu,
            hooks=self.hooks,
            parameters=self.parameters,
            network=self.network,
        )


class BuildFailure(Model):
    """The last failed build."""

    node_checkpoint_uid: Line
    """UID of the NodeCheckpoint that failed. The controller counts each UID once."""

    node_name: ObjectName
    """Node on which the build failed."""

    reason: Line
    """Cause of the failure, as one word."""

    message: Message
    """Cause of the failure, in a sentence, with the end of CRIU's log where CRIU refused."""

    time: Time
    """Time of the failure."""


class CheckpointPhase(StrEnum):
    """The phase of a Checkpoint, for people; programs read the conditions."""

    PENDING = "Pending"
    BUILDING = "Building"
    VERIFYING = "Verifying"
    DISTRIBUTING = "Distributing"
    READY = "Ready"
    FAILED = "Failed"


class CheckpointStatus(ConditionedStatus):
    """The state of the Checkpoint. Only the controller writes it."""

    observed_generation: Generation | None = None
    """The metadata.generation that this status describes."""

    phase: CheckpointPhase = CheckpointPhase.PENDING
    """Pending, Building, Verifying, Distributing, Ready or Failed: for people."""

    conditions: Conditions = ()
    """Ready: demos can be restored. Verified: a test restore of the current revision answered.
    Distributed: all nodes that are to keep the archive have it. Stalled: the controller makes no
    further attempt until the spec changes."""

    current_revision: Line | None = None
    """Identity of the revision that new demos are restored from."""

    candidate_revision: Line | None = None
    """Identity of the revision that is being built, until a test restore of it answered."""

    archive: Archive | None = None
    """The archive of the current revision."""

    nodes_ready: Count = 0
    """Number of nodes that can restore the current revision."""

    nodes_desired: Count = 0
    """Number of nodes that are to keep the archive."""

    nodes: Line = ""
    """Nodes ready and desired, such as 2/3."""

    warm_ready: Count = 0
    """Number of warm sandboxes that wait to be claimed."""

    warm: Line | None = None
    """Warm sandboxes ready and desired, such as 2/3; absent without a pool."""

    warm_message: Message | None = None
    """Reason why fewer warm sandboxes wait than spec.pool.warm asks for. Absent while they are
    being restored."""

    selector: Line = ""
    """Label selector of its objects, for the scale subresource."""

    revision_number: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    """Greatest number that any revision has had. Numbers are never reused."""

    build_attempts: Count = 0
    """Failed builds of the candidate revision so far."""

    build_faults: Annotated[int, Field(ge=0, le=1 << 31)] = 0
    """Failed builds that the definition or the application caused. After the third one the
    controller makes no further attempt. A limit of a node, such as a full disk, never counts."""

    last_failure: BuildFailure | None = None
    """The last failed build."""

    retry_at: Time | None = None
    """Time of the next build attempt."""

    build_duration: Duration | None = None
    """Duration of the build of the current revision, from the first pull until the test restore
    answered."""

    ready_since: Time | None = None
    """Time from which Ready has been True."""


class Checkpoint(Resource):
    """An application that is started once, checkpointed when it is warm, and restored for each
    DemoInstance."""

    kind_name: ClassVar[str] = "Checkpoint"
    plural: ClassVar[str] = "checkpoints"

    kind: Literal["Checkpoint"] = "Checkpoint"

    spec: CheckpointSpec
    """The application to checkpoint."""

    status: CheckpointStatus = CheckpointStatus()
    """The state of the Checkpoint."""
