"""All Kopf registrations of the controller. Thin: take the object in, and queue whom it concerns.

Every kind is indexed as well: Kopf calls no event handler before all indexed kinds are listed, so
no decision is ever made from half of the cluster. The index functions fill the views until then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kopf

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import GROUP, VERSION, Key
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.cluster import Cluster
from tryitnow.kubernetes.store import Store
from tryitnow.kubernetes.watching import ingest
from tryitnow.workqueue import WorkQueue


def register(
    registry: kopf.OperatorRegistry,
    cluster: Cluster,
    checkpoints: WorkQueue,
    instances: WorkQueue,
) -> None:
    """Watch all kinds, in all namespaces."""

    @kopf.index(GROUP, VERSION, Checkpoint.plural, registry=registry)
    async def known_checkpoints(body: kopf.Body, **_: Any) -> None:
        fill(body, cluster.checkpoints)

    @kopf.index(GROUP, VERSION, DemoInstance.plural, registry=registry)
    async def known_instances(body: kopf.Body, **_: Any) -> None:
        fill(body, cluster.instances)

    @kopf.index(GROUP, VERSION, NodeCheckpoint.plural, registry=registry)
    async def known_copies(body: kopf.Body, **_: Any) -> None:
        fill(body, cluster.copies)

    @kopf.index(GROUP, VERSION, CheckpointRevision.plural, registry=registry)
    async def known_revisions(body: kopf.Body, **_: Any) -> None:
        fill(body, cluster.revisions)

    @kopf.index(GROUP, VERSION, NodeAgent.plural, registry=registry)
    async def known_agents(body: kopf.Body, **_: Any) -> None:
        fill(body, cluster.agents)

    @kopf.index("", "v1", "nodes", registry=registry)
    async def known_nodes(body: kopf.Body, **_: Any) -> None:
        if not cluster.listed:
            take_node(body, cluster)

    def fill(body: kopf.Body, store: Store[Any]) -> None:
        if not cluster.listed:
            store.ingest(dict(body))

    @kopf.on.event(GROUP, VERSION, Checkpoint.plural, registry=registry)
    async def checkpoint(event: kopf.RawEvent, **_: Any) -> None:
        cluster.listed = True
        ingest(event, cluster.checkpoints, checkpoints)
        metadata = event["object"]["metadata"]
        queue_waiting(Key(metadata["namespace"], metadata["name"]))

    @kopf.on.event(GROUP, VERSION, DemoInstance.plural, registry=registry)
    async def demoinstance(event: kopf.RawEvent, **_: Any) -> None:
        cluster.listed = True
        ingest(event, cluster.instances, instances)

    @kopf.on.event(GROUP, VERSION, NodeCheckpoint.plural, registry=registry)
    async def nodecheckpoint(event: kopf.RawEvent, **_: Any) -> None:
        cluster.listed = True
        ingest(event, cluster.copies, None)
        metadata = event["object"]["metadata"]
        owner = Key(metadata["namespace"], event["object"]["spec"]["checkpoint"])
        checkpoints.add(owner)
        queue_waiting(owner)

    @kopf.on.event(GROUP, VERSION, CheckpointRevision.plural, registry=registry)
    async def checkpointrevision(event: kopf.RawEvent, **_: Any) -> None:
        cluster.listed = True
        ingest(event, cluster.revisions, None)
        checkpoints.add(_owner_of(event))

    @kopf.on.event(GROUP, VERSION, NodeAgent.plural, registry=registry)
    async def nodeagent(event: kopf.RawEvent, **_: Any) -> None:
        cluster.listed = True
        name = event["object"]["metadata"]["name"]
        before = cluster.agent(name)
        ingest(event, cluster.agents, None)
        after = cluster.agent(name)
        # Most reports only say that the agent lives.
        if before is None or after is None or _abilities(before) != _abilities(after):
            queue_all()

    @kopf.on.event("", "v1", "nodes", registry=registry)
    async def node(event: kopf.RawEvent, **_: Any) -> None:
        cluster.listed = True
        before = dict(cluster.node_labels), cluster.cordoned
        if event["type"] == "DELETED":
            name = event["object"]["metadata"]["name"]
            cluster.node_labels.pop(name, None)
            cluster.cordoned -= {name}
        else:
            take_node(event["object"], cluster)
        if before != (cluster.node_labels, cluster.cordoned):
            queue_all()

    def queue_waiting(owner: Key) -> None:
        for instance in cluster.instances_of(owner):
            if instance.status.node_name is None:
                instances.add(instance.key)

    def queue_all() -> None:
        for each in cluster.checkpoints:
            checkpoints.add(each.key)
            queue_waiting(each.key)


def _owner_of(event: kopf.RawEvent) -> Key:
    body = event["object"]
    return Key(body["metadata"]["namespace"], body["spec"]["checkpoint"])


def _abilities(agent: NodeAgent) -> tuple[object, ...]:
    status = agent.status
    conditions = sorted((c.type, c.status, c.message) for c in status.conditions)
    return conditions, status.capacity, status.transfer_url, status.transfer_certificate


def take_node(node: Mapping[str, Any], cluster: Cluster) -> None:
    """Remember that there is a node, its labels, and whether it is cordoned."""
    name = node["metadata"]["name"]
    cluster.node_labels[name] = dict(node["metadata"].get("labels") or {})
    is_cordoned = bool(node.get("spec", {}).get("unschedulable"))
    cluster.cordoned = cluster.cordoned | {name} if is_cordoned else cluster.cordoned - {name}
