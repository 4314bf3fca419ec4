"""``Checkpoint``: which application to freeze, when it counts as warm, and where copies go."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue, WithJsonSchema

from tryitnow.api.duration import Duration
from tryitnow.api.hooks import Hooks, ParameterList
from tryitnow.api.meta import (
    NO_SPACE,
    ConditionedStatus,
    Conditions,
    Model,
    Resource,
    Time,
)
from tryitnow.api.template import Container, Template


class HTTPGet(Model):
    """The request that tells whether the application is ready."""

    path: Annotated[str, Field(max_length=2048, pattern=f"^/{NO_SPACE}*$")] = "/"
    """Path to request. Defaults to /."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Container port to request; one of the template's ports.
    Defaults to the first port that a container has."""

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=f"^{NO_SPACE}+$")] | None = (
        None
    )
    """Host header to send. Defaults to the node's address and port, as in the demo's URL."""


class Readiness(Model):
    """When the application counts as ready, at the build, after a thaw and after a cold start."""

    http_get: HTTPGet = HTTPGet()
    """The request that tells whether the application is ready."""

    expected_status: Annotated[int, Field(ge=100, le=599)] = 200
    """HTTP status that means ready. Redirects are not followed. Defaults to 200."""

    expected_body: Annotated[str, Field(max_length=4096)] = ""
    """Text that the body must contain. Defaults to no condition on the body."""

    timeout: Duration = timedelta(minutes=5)
    """How long a cold start may take until ready. Defaults to 5m."""

    restore_timeout: Duration = timedelta(seconds=15)
    """How long a thawed copy may take until ready, before it counts as failed and the
    instance is started cold. Defaults to 15s."""


class WarmUp(Model):
    """Requests that fill the application's caches before it is frozen."""

    paths: Annotated[
        tuple[
            Annotated[str, WithJsonSchema({"type": "string", "maxLength": 2048, "pattern": "^/"})],
            ...,
        ],
        Field(min_length=1, max_length=100),
    ]
    """Paths to request, in this order. Redirects are not followed, since they may lead
    elsewhere: name both paths. A status of 500 or above fails the build."""

    rounds: Annotated[int, Field(ge=1, le=100)] = 1
    """How often to go through the paths. Defaults to 1."""


class TCPPolicy(StrEnum):
    """What becomes of TCP connections that are open at the freeze."""

    CLOSE = "Close"
    ESTABLISHED = "Established"


class Compression(StrEnum):
    """How an archive is compressed."""

    ZSTD = "Zstd"
    NONE = "None"


class CRIUOptions(Model):
    """How CRIU freezes and thaws."""

    tcp: TCPPolicy | None = None
    """TCP connections open at the freeze: Close ends them at the thaw (the application
    reconnects), Established restores them (for connections inside the application).
    Defaults to Close for one container and to Established for several."""

    file_locks: bool = True
    """Whether to freeze file locks, as databases hold them. Defaults to true."""

    compression: Compression = Compression.ZSTD
    """Compression of the archive: Zstd or None. Defaults to Zstd."""


class Distribution(Model):
    """Which nodes keep a copy."""

    node_selector: dict[str, Annotated[str, Field(max_length=63)]] = Field(
        default={}, json_schema_extra={"maxProperties": 64}
    )
    """Labels that a node must have to build, keep and run this checkpoint. Defaults to all nodes
    that run an agent."""

    copies: Annotated[int, Field(ge=1, le=10000)] | None = None
    """How many nodes keep a copy. Defaults to all selected nodes."""


class Pool(Model):
    """Copies that are thawed ahead of time and wait to be claimed."""

    warm: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many copies wait, over all nodes together. A DemoInstance claims one at once, and it is
    replaced. Never more than the nodes' memory allows. Set it (0 will do) where a
    HorizontalPodAutoscaler is to scale it. Defaults to 0."""

    pause: bool = False
    """Whether waiting copies are paused, so that they use no processor time; a claim then takes
    some 10 ms longer. Defaults to false."""


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
    """The application to freeze."""

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
    """What runs in each demo. A change starts a new revision."""

    readiness: Readiness = Readiness()
    """When the application counts as ready."""

    warm_up: WarmUp | None = None
    """Requests that fill the application's caches before it is frozen."""

    criu: CRIUOptions = CRIUOptions()
    """How CRIU freezes and thaws."""

    distribution: Distribution = Distribution()
    """Which nodes keep a copy."""

    pool: Pool = Pool()
    """Copies that are thawed ahead of time and wait to be claimed."""

    hooks: Hooks = Hooks()
    """Commands at the turns of an application's life. A change starts a new revision."""

    parameters: ParameterList = ()
    """What whoever asks for a demo may set in its spec.parameters. A change starts a new
    revision."""

    def blueprint(self) -> Blueprint:
        """Return the part that decides what a frozen image is like, and what is done with it."""
        return Blueprint(
            template=self.template,
            readiness=self.readiness,
            warm_up=self.warm_up,
            criu=self.criu,
            hooks=self.hooks,
            parameters=self.parameters,
        )


class Blueprint(Model):
    """All that is needed to start, freeze and thaw the application; identifies a revision."""

    template: Template
    """What runs in each demo."""

    readiness: Readiness = Readiness()
    """When the application counts as ready."""

    warm_up: WarmUp | None = None
    """Requests made before the freeze."""

    criu: CRIUOptions = CRIUOptions()
    """How CRIU freezes and thaws."""

    hooks: Hooks = Hooks()
    """Commands at the turns of an application's life."""

    parameters: ParameterList = ()
    """What a demo may set."""

    @property
    def main(self) -> Container:
        """The first of ``containers``: hooks run in it unless they say otherwise."""
        return self.template.containers[0]

    @property
    def needs_pod(self) -> bool:
        """Whether it runs as a pod.

        Several containers need one, and so does what must be there before a copy runs: volumes,
        and the gate that keeps visitors out until the hooks have run.
        """
        template = self.template
        several = len(template.containers) + len(template.init_containers) > 1
        return bool(several or template.volumes or self.hooks.after_restore)

    @property
    def probe_port(self) -> int:
        """The container port that readiness asks and that a demo's URL leads to."""
        return self.readiness.http_get.port or self.template.ports[0]

    @property
    def freezing(self) -> CRIUOptions:
        """How CRIU freezes and thaws, with the defaults decided."""
        several = len(self.template.members) > 1
        default = TCPPolicy.ESTABLISHED if several else TCPPolicy.CLOSE
        return self.criu.model_copy(update={"tcp": self.criu.tcp or default})

    def revision(self) -> str:
        """Return the name of this blueprint: equal for equal content, whatever wrote it.

        Defaults do not count: a field that a newer version adds must not make all old revisions
        new ones.
        """
        decided = self.model_copy(update={"criu": self.freezing})
        content = decided.model_dump(
            by_alias=True, mode="json", exclude_none=True, exclude_defaults=True
        )
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]


class Versions(Model):
    """The software and the processor that took part in a checkpoint."""

    kernel: str = ""
    """Linux kernel release."""

    criu: str = ""
    """CRIU version."""

    podman: str = ""
    """Podman version."""

    runtime: str = ""
    """OCI runtime and its version."""

    cpu_features: Annotated[
        tuple[Annotated[str, Field(max_length=32)], ...], Field(max_length=64)
    ] = ()
    """Features of the processor that a checkpoint depends on, sorted, by their names in
    /proc/cpuinfo. A node that lacks one of them may be unable to restore it."""


class Archive(Model):
    """One exported checkpoint, the same bytes on every node."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the archive, in hexadecimal."""

    size_bytes: int
    """Size of the archive in bytes."""

    image: str
    """Image of the first container, pinned to its digest."""

    images: dict[str, str] = Field(default={})
    """Images of all containers by name, pinned; absent where there is only one."""

    created: Time
    """When the application was frozen."""

    versions: Versions = Versions()
    """The software that froze it."""

    def image_of(self, container: str) -> str:
        """Return the image of a container, pinned."""
        return self.images.get(container, self.image)


class BuildFailure(Model):
    """Why the last build did not succeed."""

    node_checkpoint_uid: str
    """UID of the NodeCheckpoint that failed, so that a failure is counted once."""

    node_name: str
    """Node on which it was tried."""

    reason: str
    """Why, as one word."""

    message: str
    """Why, in a sentence, with the tail of CRIU's log where CRIU refused."""

    time: Time
    """When it failed."""


class CheckpointPhase(StrEnum):
    """Where a Checkpoint stands, for people; programs read the conditions."""

    PENDING = "Pending"
    BUILDING = "Building"
    VERIFYING = "Verifying"
    DISTRIBUTING = "Distributing"
    READY = "Ready"
    FAILED = "Failed"


class CheckpointStatus(ConditionedStatus):
    """What became of it. Written by the controller only."""

    observed_generation: int | None = None
    """The metadata.generation that this status speaks of."""

    phase: CheckpointPhase = CheckpointPhase.PENDING
    """Pending, Building, Verifying, Distributing, Ready or Failed: for people."""

    conditions: Conditions = ()
    """Ready: a verified copy serves and no copy is under way. Verified: a test restore of the
    current revision answered. Distributed: all selected nodes hold a copy. Stalled: nothing more
    will happen until somebody changes something."""

    current_revision: str | None = None
    """The revision that new demos are thawed from."""

    candidate_revision: str | None = None
    """The revision that is being built, until it is verified."""

    archive: Archive | None = None
    """The frozen image of the current revision."""

    nodes_ready: int = 0
    """Number of nodes that can thaw the current revision."""

    nodes_desired: int = 0
    """Number of nodes that are to hold a copy."""

    nodes: str = ""
    """Nodes ready and desired, such as 2/3."""

    warm_ready: int = 0
    """Number of warm copies that wait to be claimed."""

    warm: str | None = None
    """Warm copies that wait and those that are wanted, such as 2/3; absent without a pool."""

    warm_message: str | None = None
    """Why fewer warm copies wait than are wanted, where that is no matter of moments."""

    selector: str = ""
    """Labels of what belongs to it, as the scale subresource reports them."""

    build_attempts: int = 0
    """Failed builds of the candidate revision so far."""

    last_failure: BuildFailure | None = None
    """Why the last build did not succeed."""

    retry_at: Time | None = None
    """When the next build will be tried."""

    build_duration: Duration | None = None
    """How long the build of the current revision took, from the first pull to verified."""

    ready_since: Time | None = None
    """Since when Ready is True."""


class Checkpoint(Resource):
    """An application that is started once, frozen when warm, and thawed for each DemoInstance."""

    kind_name: ClassVar[str] = "Checkpoint"
    plural: ClassVar[str] = "checkpoints"

    kind: Literal["Checkpoint"] = "Checkpoint"

    spec: CheckpointSpec
    """The application to freeze."""

    status: CheckpointStatus = CheckpointStatus()
    """What became of it."""
