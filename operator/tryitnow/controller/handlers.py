"""All Kopf registrations of the controller. Each stores the object and queues affected objects.

Every kind is indexed as well: Kopf calls no event handler before all indexed kinds are listed, so
no decision is ever made from half of the cluster. The index functions fill the stores until then.
"""

from __future__ import annotations

from typing import Any

import kopf

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import GROUP, VERSION, Key, Resource
from tryitnow.api.node import ClusterNode
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.references import checkpoint_of, revision_of
from tryitnow.kubernetes.objects import UnreadableObject
from tryitnow.kubernetes.store import R, Store
from tryitnow.kubernetes.watching import ingest
from tryitnow.workqueue import WorkQueue


def register(
    registry: kopf.OperatorRegistry,
    cluster: Cluster,
    checkpoints: WorkQueue,
    instances: WorkQueue,
) -> None:
    """Watch all kinds, in all namespaces."""

    def fill(body: kopf.Body, store: Store[Any]) -> None:
        if not cluster.listed:
            store.ingest(dict(body))

    @kopf.index(GROUP, VERSION, Checkpoint.plural, registry=registry)
    async def known_checkpoints(body: kopf.Body, **_: Any) -> None:
        fill(body, cluster.checkpoints)

    @kopf.index(GROUP, VERSION, DemoInstance.plural, registry=registry)
    async def known_instances(body: kopf.Body, **_: Any) -> None:
        fill(body, cluster.instances)

    @kopf.index(GROUP, VERSION, NodeCheckpoint.plural, registry=registry)
    async def known_node_checkpoints(body: kopf.Body, **_: Any) -> None:
        fill(body, cluster.node_checkpoints)

    @kopf.index(GROUP, VERSION, CheckpointRevision.plural, registry=registry)
    async def known_revisions(body: kopf.Body, **_: Any) -> None:
        fill(body, cluster.revisions)

    @kopf.index(GROUP, VERSION, NodeAgent.plural, registry=registry)
    async def known_agents(body: kopf.Body, **_: Any) -> None:
        fill(body, cluster.agents)

    @kopf.index("", "v1", ClusterNode.plural, registry=registry)
    async def known_nodes(body: kopf.Body, **_: Any) -> None:
        fill(body, cluster.nodes)

    @kopf.on.event(GROUP, VERSION, Checkpoint.plural, registry=registry)
    async def checkpoint(event: kopf.RawEvent, **_: Any) -> None:
        cluster.listed = True
        ingest(event, cluster.checkpoints, checkpoints)
        queue_waiting(cluster, instances, Resource.key_of(event["object"]["metadata"]))

    @kopf.on.event(GROUP, VERSION, DemoInstance.plural, registry=registry)
    async def demoinstance(event: kopf.RawEvent, **_: Any) -> None:
        cluster.listed = True
        on_demoinstance(event, cluster, checkpoints, instances)

    @kopf.on.event(GROUP, VERSION, NodeCheckpoint.plural, registry=registry)
    async def nodecheckpoint(event: kopf.RawEvent, **_: Any) -> None:
        cluster.listed = True
        on_nodecheckpoint(event, cluster, checkpoints, instances)

    @kopf.on.event(GROUP, VERSION, CheckpointRevision.plural, registry=registry)
    async def checkpointrevision(event: kopf.RawEvent, **_: Any) -> None:
        cluster.listed = True
        on_checkpointrevision(event, cluster, checkpoints, instances)

    @kopf.on.event(GROUP, VERSION, NodeAgent.plural, registry=registry)
    async def nodeagent(event: kopf.RawEvent, **_: Any) -> None:
        cluster.listed = True
        key = Resource.key_of(event["object"]["metadata"])
        before = cluster.agents.get(key)
        ingest(event, cluster.agents, None)
        # Most reports only say that the agent lives.
        if _abilities(before) != _abilities(cluster.agents.get(key)):
            queue_all(cluster, checkpoints, instances)

    @kopf.on.event("", "v1", ClusterNode.plural, registry=registry)
    async def node(event: kopf.RawEvent, **_: Any) -> None:
        cluster.listed = True
        key = Resource.key_of(event["object"]["metadata"])
        before = cluster.nodes.get(key)
        ingest(event, cluster.nodes, None)
        # A kubelet reports again and again that nothing changed.
        if _qualities(before) != _qualities(cluster.nodes.get(key)):
            queue_all(cluster, checkpoints, instances)


def on_demoinstance(
    event: kopf.RawEvent, cluster: Cluster, checkpoints: WorkQueue, instances: WorkQueue
) -> None:
    """Take in a DemoInstance; queue its Checkpoint where nothing needs its revision any more."""
    key = Resource.key_of(event["object"]["metadata"])
    before = _found(cluster.instances, key)
    ingest(event, cluster.instances, instances)
    after = _found(cluster.instances, key)
    if after is None and isinstance(before, DemoInstance):
        # One may wait for the limit of its Checkpoint, or for the room.
        queue_waiting(cluster, instances, before.checkpoint_key)
    revision = revision_of(before) if before is not None else None
    if revision is None or (after is not None and revision_of(after) == revision):
        return
    held = _found(cluster.revisions, revision)
    if held is not None and not cluster.is_referred_to(revision):
        checkpoints.add(checkpoint_of(held))


def on_checkpointrevision(
    event: kopf.RawEvent, cluster: Cluster, checkpoints: WorkQueue, instances: WorkQueue
) -> None:
    """Take in a CheckpointRevision; queue its Checkpoint, and the instances that wait for it."""
    key = Resource.key_of(event["object"]["metadata"])
    before = _found(cluster.revisions, key)
    ingest(event, cluster.revisions, None)
    after = _found(cluster.revisions, key)
    known = after or before
    if known is None:
        return
    owner = checkpoint_of(known)
    checkpoints.add(owner)
    if before is None:
        queue_waiting(cluster, instances, owner)


def _found(store: Store[R], key: Key) -> R | UnreadableObject[R] | None:
    return store.get(key) or store.unreadable(key)


def on_nodecheckpoint(
    event: kopf.RawEvent, cluster: Cluster, checkpoints: WorkQueue, instances: WorkQueue
) -> None:
    """Take in a NodeCheckpoint; queue its Checkpoint, and the instances that wait for it."""
    key = Resource.key_of(event["object"]["metadata"])
    before, known_before = cluster.node_checkpoints.get(key), _found(cluster.node_checkpoints, key)
    ingest(event, cluster.node_checkpoints, None)
    after, known_after = cluster.node_checkpoints.get(key), _found(cluster.node_checkpoints, key)
    known = known_after or known_before
    if known is None:
        return
    # One that does not fit our model has a Checkpoint as well.
    owner = checkpoint_of(known)
    checkpoints.add(owner)
    if _offer(before) != _offer(after):
        queue_waiting(cluster, instances, owner)


def queue_waiting(cluster: Cluster, instances: WorkQueue, checkpoint: Key) -> None:
    """Queue the instances of a Checkpoint that wait for a node."""
    for instance in cluster.waiting_for(checkpoint):
        instances.add(instance.key)


def queue_all(cluster: Cluster, checkpoints: WorkQueue, instances: WorkQueue) -> None:
    """Queue all objects whose plan depends on the nodes."""
    for checkpoint in cluster.checkpoints:
        checkpoints.add(checkpoint.key)
        queue_waiting(cluster, instances, checkpoint.key)
    for key in cluster.checkpoints_with_revisions():
        checkpoints.add(key)


def _offer(node_checkpoint: NodeCheckpoint | None) -> tuple[object, ...]:
    """Return the properties of a NodeCheckpoint that an instance may wait for."""
    if node_checkpoint is None or not node_checkpoint.is_ready:
        return ()
    status = node_checkpoint.status
    return (
        node_checkpoint.spec.revision,
        node_checkpoint.claimable,
        status.memory_bytes,
        status.disk_bytes,
    )


def _abilities(agent: NodeAgent | None) -> tuple[object, ...]:
    if agent is None:
        return ()
    status = agent.status
    return (
        sorted((c.type, c.status, c.message) for c in status.conditions),
        status.capacity,
        status.namespace_capacity,
        status.transfer_url,
        status.transfer_certificate,
        status.disk_reserve_bytes,
        status.disk_available_bytes >= status.disk_reserve_bytes,
    )


def _qualities(node: ClusterNode | None) -> tuple[object, ...]:
    if node is None:
        return ()
    return node.metadata.labels, node.spec, node.status
