"""Resources as tests need them: whole and valid, with only the telling part spelt out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tryitnow.api.checkpoint import (
    Archive,
    Blueprint,
    Checkpoint,
    CheckpointSpec,
    CheckpointStatus,
    CRIUOptions,
    Distribution,
    Readiness,
    WarmUp,
)
from tryitnow.api.demoinstance import (
    CheckpointReference,
    DemoInstance,
    DemoInstancePhase,
    DemoInstanceSpec,
    DemoInstanceStatus,
    StartPolicy,
)
from tryitnow.api.meta import NODE_FINALIZER, Condition, ConditionStatus, ObjectMeta
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

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

PORT = 8080
"""The application's port inside its container."""

IMAGE = "registry.example/shop:1.2"
PINNED = f"registry.example/shop@sha256:{'5' * 64}"


def make_archive(content: bytes = b"the frozen shop", **changes: Any) -> Archive:
    """Describe an archive that has this content."""
    whole: dict[str, Any] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "image": PINNED,
        "created": NOW,
    }
    return Archive(**{**whole, **changes})


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
) -> CheckpointSpec:
    """Write the spec of a Checkpoint."""
    return CheckpointSpec(
        template=template or make_template(image),
        readiness=readiness or Readiness(),
        warm_up=warm_up,
        criu=criu or CRIUOptions(),
        distribution=Distribution(node_selector=dict(node_selector or {}), copies=copies),
    )


def make_blueprint(**changes: Any) -> Blueprint:
    """Describe what a revision of the shop is."""
    return make_spec(**changes).blueprint()


REVISION = make_blueprint().revision()
"""The revision of ``make_checkpoint()``."""


def make_checkpoint(
    name: str = "shop",
    *,
    namespace: str = "default",
    uid: str = "uid-of-shop",
    generation: int = 1,
    spec: CheckpointSpec | None = None,
    status: CheckpointStatus | None = None,
    serving: str | None = None,
    archive: Archive | None = None,
    deleting: bool = False,
    **spec_changes: Any,
) -> Checkpoint:
    """Make a Checkpoint; ``serving`` names the revision that demos are thawed from."""
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
) -> ClusterNode:
    """Make a Node of the cluster, as its kubelet reports it."""
    held = {"Ready": "True", **(conditions or {})}
    return ClusterNode.model_validate(
        {
            "metadata": _meta(name, "", f"uid-of-node-{name}").model_copy(
                update={"labels": dict(labels or {})}
            ),
            "spec": {"unschedulable": cordoned, "taints": list(taints)},
            "status": {"conditions": [{"type": t, "status": s} for t, s in held.items()]},
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


def make_copy(
    node: str = "node-a",
    *,
    checkpoint: str = "shop",
    namespace: str = "default",
    revision: str | None = None,
    phase: NodeCheckpointPhase = NodeCheckpointPhase.PREPARED,
    blueprint: Blueprint | None = None,
    fetch: Fetch | None = None,
    archive: Archive | None = None,
    reason: str = "",
    message: str = "",
    since: datetime = NOW,
    uid: str | None = None,
    deleting: bool = False,
    finalizer: bool = True,
    **status: Any,
) -> NodeCheckpoint:
    """Make a copy on a node: the builder's own unless ``fetch`` says where it comes from."""
    blueprint = blueprint or make_blueprint()
    revision = revision or blueprint.revision()
    if archive is None and phase in {
        NodeCheckpointPhase.PREPARED,
        NodeCheckpointPhase.QUARANTINED,
    }:
        archive = fetch.archive if fetch else make_archive()
    ready = phase is NodeCheckpointPhase.PREPARED
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
            blueprint=blueprint,
            fetch=fetch,
        ),
        status=NodeCheckpointStatus(
            phase=phase, archive=archive, conditions=(condition,), **status
        ),
    )


def make_instance(
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
    **status: Any,
) -> DemoInstance:
    """Make an instance; bound when ``node`` is given."""
    return DemoInstance(
        metadata=_meta(
            name,
            namespace,
            uid or hashlib.sha256(name.encode()).hexdigest()[:32],
            created=created,
            deleting=deleting,
            finalizer=finalizer,
        ),
        spec=DemoInstanceSpec(
            checkpoint_ref=CheckpointReference(name=checkpoint), start=start, ttl=ttl
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
    )
