"""Resources as tests need them: whole and valid, with only the telling part spelt out."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tryitnow.api.archive import Archive, Versions
from tryitnow.api.checkpoint import (
    Checkpoint,
    CheckpointSpec,
    CheckpointStatus,
    Distribution,
    OnCrash,
    Pool,
)
from tryitnow.api.checkpointrevision import (
    REVISION_FINALIZER,
    CheckpointRevision,
    CheckpointRevisionSpec,
    CheckpointRevisionStatus,
    checkpoint_revision_name,
)
from tryitnow.api.definition import CRIUOptions, Definition, Readiness, WarmUp
from tryitnow.api.demoinstance import (
    CheckpointReference,
    DemoInstance,
    DemoInstancePhase,
    DemoInstanceSpec,
    DemoInstanceStatus,
    StartPolicy,
)
from tryitnow.api.meta import NODE_FINALIZER, Condition, ConditionStatus, ObjectMeta
from tryitnow.api.network import Network
from tryitnow.api.node import ClusterNode
from tryitnow.api.nodeagent import NodeAgent, NodeAgentSpec, NodeAgentStatus
from tryitnow.api.nodecheckpoint import (
    Fetch,
    NodeCheckpoint,
    NodeCheckpointPhase,
    NodeCheckpointSpec,
    NodeCheckpointStatus,
    node_checkpoint_name,
)
from tryitnow.api.template import Container, ContainerPort, Template
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.nodes import NodeState
from tryitnow.podman.references import full_reference, repository_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

PORT = 8080
"""The application's port inside its container."""

IMAGE = "registry.example/shop:1.2"
PINNED = f"registry.example/shop@sha256:{'5' * 64}"


def pinned(image: str) -> str:
    """Return what a name of an image is pinned to by a build."""
    return f"{repository_of(full_reference(image))}@sha256:{'5' * 64}"


def make_archive(content: bytes = b"the checkpointed shop", **changes: Any) -> Archive:
    """Describe an archive that has this content."""
    whole: dict[str, Any] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "image": PINNED,
        "created": NOW,
    }
    return Archive(**{**whole, **changes})


def make_export(
    pages: bytes = b"the memory of a warm shop", files: Mapping[str, bytes] | None = None
) -> bytes:
    """Make what Podman exports of a container: CRIU's images, and ``files`` beside them."""
    parts = {"checkpoint/inventory.img": b"CRIU", "checkpoint/pages-1.img": pages, **(files or {})}
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return written.getvalue()


def make_container(
    name: str = "shop", image: str = IMAGE, ports: Iterable[int] = (PORT,), **changes: Any
) -> Container:
    """Describe a container."""
    published = tuple(ContainerPort(container_port=port) for port in ports)
    return Container(name=name, image=image, ports=published, **changes)


def make_template(image: str = IMAGE, ports: Iterable[int] = (PORT,), **changes: Any) -> Template:
    """Describe an application of one container."""
    return Template(containers=(make_container(image=image, ports=ports, **changes),))


def make_spec(
    *,
    image: str = IMAGE,
    template: Template | None = None,
    readiness: Readiness | None = None,
    warm_up: WarmUp | None = None,
    criu: CRIUOptions | None = None,
    node_selector: Mapping[str, str] | None = None,
    copies: int | None = None,
    network: Network | None = None,
) -> CheckpointSpec:
    """Write the spec of a Checkpoint."""
    return CheckpointSpec(
        template=template or make_template(image),
        readiness=readiness or Readiness(),
        warm_up=warm_up,
        criu=criu or CRIUOptions(),
        network=network or Network(),
        distribution=Distribution(node_selector=dict(node_selector or {}), copies=copies),
    )


def make_definition(**changes: Any) -> Definition:
    """Describe what a revision of the shop is."""
    return make_spec(**changes).definition()


UID_OF_SHOP = "uid-of-shop"

REVISION = make_definition().identity(UID_OF_SHOP)
"""Identity of the revision of ``make_checkpoint()``."""

OTHER_REVISION = "0123456789abcdef" * 2


def make_revision(
    checkpoint: str = "shop",
    *,
    namespace: str = "default",
    definition: Definition | None = None,
    uid: str = UID_OF_SHOP,
    number: int = 1,
    images: Mapping[str, str] | None = None,
    archive: Archive | None = None,
    deleting: bool = False,
    finalizer: bool = False,
) -> CheckpointRevision:
    """Make a revision; ``images`` are given when it has been built."""
    definition = definition or make_definition()
    identity = definition.identity(uid)
    name = checkpoint_revision_name(checkpoint, identity)
    held = (REVISION_FINALIZER,) if finalizer else ()
    meta = _meta(name, namespace, f"uid-of-{name}", deleting=deleting)
    return CheckpointRevision(
        metadata=meta.model_copy(update={"finalizers": held}),
        spec=CheckpointRevisionSpec(
            checkpoint=checkpoint,
            checkpoint_uid=uid,
            identity=identity,
            number=number,
            definition=definition,
        ),
        status=CheckpointRevisionStatus(images=dict(images or {}), archive=archive),
    )


def make_checkpoint(
    name: str = "shop",
    *,
    namespace: str = "default",
    uid: str = UID_OF_SHOP,
    generation: int = 1,
    spec: CheckpointSpec | None = None,
    status: CheckpointStatus | None = None,
    serving: str | None = None,
    archive: Archive | None = None,
    deleting: bool = False,
    **spec_changes: Any,
) -> Checkpoint:
    """Make a Checkpoint; ``serving`` names the revision that demos are restored from."""
    if status is None:
        status = CheckpointStatus(
            current_revision=serving,
            archive=(archive or make_archive()) if serving else None,
        )
    return Checkpoint(
        metadata=_meta(name, namespace, uid, generation=generation, deleting=deleting),
        spec=spec or make_spec(**spec_changes),
        status=status,
    )


def make_checkpoint_of(revision: CheckpointRevision) -> Checkpoint:
    """Make the Checkpoint whose spec says what a revision defines."""
    definition = revision.definition
    fields = {name: getattr(definition, name) for name in Definition.model_fields}
    return make_checkpoint(
        revision.spec.checkpoint,
        namespace=revision.metadata.namespace,
        uid=revision.spec.checkpoint_uid,
        spec=CheckpointSpec(**fields),
    )


def make_agent(
    name: str = "node-a",
    *,
    ready: bool = True,
    criu: bool = True,
    seen: datetime | None = NOW,
    capacity: int = 10,
    memory: int = 8 << 30,
    disk: int = 100 << 30,
    disk_reserve: int = 0,
    transfer_url: str | None = None,
    certificate: str | None = None,
    stopping: bool = False,
    deleting: bool = False,
    cpu_features: tuple[str, ...] = (),
) -> NodeAgent:
    """Make the agent of a healthy node."""
    return NodeAgent(
        metadata=_meta(name, "", f"uid-of-{name}", deleting=deleting),
        spec=NodeAgentSpec(node_name=name),
        status=NodeAgentStatus(
            heartbeat=seen,
            conditions=(
                make_condition("Ready", holds=ready, message="" if ready else "Podman is away"),
                make_condition("CRIUAvailable", holds=criu, message="" if criu else "no criu"),
                make_condition("Stopping", holds=stopping),
            ),
            address=f"{name}.example",
            transfer_url=(
                f"https://{name}.example:9443/archives" if transfer_url is None else transfer_url
            ),
            transfer_certificate=(f"certificate of {name}" if certificate is None else certificate),
            capacity=capacity,
            memory_available_bytes=memory,
            disk_available_bytes=disk,
            disk_reserve_bytes=disk_reserve,
            versions=Versions(cpu_features=cpu_features),
        ),
    )


def make_silent_agent(name: str = "node-a", **changes: Any) -> NodeAgent:
    """Make the agent of a node that has not been heard of for an hour."""
    return make_agent(name, seen=NOW - timedelta(hours=1), **changes)


def make_node(
    name: str = "node-a",
    *,
    labels: Mapping[str, str] | None = None,
    cordoned: bool = False,
    taints: Iterable[Mapping[str, str]] = (),
    conditions: Mapping[str, str] | None = None,
    address: str | None = None,
    memory: str | None = None,
) -> ClusterNode:
    """Make a Node of the cluster, as its kubelet reports it."""
    held = {"Ready": "True", **(conditions or {})}
    return ClusterNode.model_validate(
        {
            "metadata": _meta(name, "", f"uid-of-node-{name}").model_copy(
                update={"labels": dict(labels or {})}
            ),
            "spec": {"unschedulable": cordoned, "taints": list(taints)},
            "status": {
                "conditions": [{"type": t, "status": s} for t, s in held.items()],
                "addresses": [{"type": "InternalIP", "address": address or f"{name}.example"}],
                "allocatable": {} if memory is None else {"memory": memory},
            },
        }
    )


def make_state(
    agent: NodeAgent, *, at: datetime = NOW, node: ClusterNode | None = None, **changes: Any
) -> NodeState:
    """Describe the node of an agent, which is silent when its heartbeat is old."""
    return NodeState(
        agent=agent,
        node=node or make_node(agent.metadata.name),
        is_lost=agent.is_lost(at),
        **changes,
    )


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def add_node(cluster: Cluster, node: NodeAgent | str, **changes: Any) -> None:
    """Have a node in the cluster; with an agent that reports, unless only its name is given."""
    name = node if isinstance(node, str) else node.metadata.name
    cluster.nodes.update(make_node(name, **changes))
    if isinstance(node, NodeAgent):
        cluster.agents.update(node)


def make_node_checkpoint(
    node: str = "node-a",
    *,
    checkpoint: str = "shop",
    namespace: str = "default",
    revision: str | None = None,
    phase: NodeCheckpointPhase = NodeCheckpointPhase.READY,
    fetch: Fetch | None = None,
    archive: Archive | None = None,
    reason: str = "",
    message: str = "",
    since: datetime = NOW,
    uid: str | None = None,
    deleting: bool = False,
    finalizer: bool = True,
    pool: Pool | None = None,
    **status: Any,
) -> NodeCheckpoint:
    """Make a revision on a node: the builder's own unless ``fetch`` says where it comes from."""
    revision = revision or REVISION
    if archive is None and phase in {
        NodeCheckpointPhase.READY,
        NodeCheckpointPhase.QUARANTINED,
    }:
        archive = fetch.archive if fetch else make_archive()
    ready = phase is NodeCheckpointPhase.READY
    condition = make_condition(
        "Ready", holds=ready, reason=reason or str(phase), message=message, at=since
    )
    return NodeCheckpoint(
        metadata=_meta(
            node_checkpoint_name(checkpoint, revision, node),
            namespace,
            uid or f"uid-of-{revision}-on-{node}",
            deleting=deleting,
            finalizer=finalizer,
        ),
        spec=NodeCheckpointSpec(
            checkpoint=checkpoint,
            revision=revision,
            node_name=node,
            fetch=fetch,
            pool=pool or Pool(),
        ),
        status=NodeCheckpointStatus(
            phase=phase, archive=archive, conditions=(condition,), **status
        ),
    )


def make_demo(
    name: str = "annas-demo",
    *,
    checkpoint: str = "shop",
    namespace: str = "default",
    start: StartPolicy = StartPolicy.PREFER_RESTORE,
    ttl: timedelta | None = None,
    created: datetime = NOW,
    node: str | None = None,
    revision: str | None = None,
    phase: DemoInstancePhase = DemoInstancePhase.PENDING,
    uid: str | None = None,
    deleting: bool = False,
    finalizer: bool = False,
    on_crash: OnCrash | None = None,
    annotations: Mapping[str, str] | None = None,
    **status: Any,
) -> DemoInstance:
    """Make a demo; bound when ``node`` is given."""
    return DemoInstance(
        metadata=_meta(
            name,
            namespace,
            uid or hashlib.sha256(name.encode()).hexdigest()[:32],
            created=created,
            deleting=deleting,
            finalizer=finalizer,
            annotations=annotations,
        ),
        spec=DemoInstanceSpec(
            checkpoint_ref=CheckpointReference(name=checkpoint),
            start=start,
            ttl=ttl,
            on_crash=on_crash,
        ),
        status=DemoInstanceStatus(phase=phase, node_name=node, revision=revision, **status),
    )


def make_condition(
    type_: str,
    *,
    holds: bool | None = True,
    reason: str = "Because",
    message: str = "",
    at: datetime = NOW,
) -> Condition:
    """Make a condition; ``None`` means Unknown."""
    status = {
        True: ConditionStatus.TRUE,
        False: ConditionStatus.FALSE,
        None: ConditionStatus.UNKNOWN,
    }[holds]
    return Condition(
        type=type_, status=status, reason=reason, message=message, last_transition_time=at
    )


def _meta(
    name: str,
    namespace: str,
    uid: str,
    *,
    generation: int = 1,
    created: datetime = NOW,
    deleting: bool = False,
    finalizer: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> ObjectMeta:
    return ObjectMeta(
        name=name,
        namespace=namespace,
        uid=uid,
        generation=generation,
        resource_version="1",
        creation_timestamp=created,
        deletion_timestamp=NOW if deleting else None,
        finalizers=(NODE_FINALIZER,) if finalizer else (),
        annotations=dict(annotations or {}),
    )
