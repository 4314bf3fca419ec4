"""All Kopf registrations of the controller. Thin: take the object in, and queue whom it concerns.

Every kind is indexed as well: Kopf calls no event handler before all indexed kinds are listed, so
no decision is ever made from half of the cluster.
"""

from __future__ import annotations

from typing import Any

import kopf

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import GROUP, VERSION, Key
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.cluster import Cluster
from tryitnow.kubernetes.watching import configure, take
from tryitnow.workqueue import WorkQueue


def register(
    registry: kopf.OperatorRegistry,
    cluster: Cluster,
    checkpoints: WorkQueue,
    instances: WorkQueue,
) -> None:
    """Watch all kinds, in all namespaces."""
    api = {"group": GROUP, "version": VERSION, "registry": registry}

    @kopf.on.startup(registry=registry)
    async def settings_of_kopf(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)

    @kopf.index(plural=Checkpoint.plural, **api)
    async def known_checkpoints(event: kopf.RawEvent, **_: Any) -> None:
        take(event, cluster.checkpoints, None)

    @kopf.index(plural=DemoInstance.plural, **api)
    async def known_instances(event: kopf.RawEvent, **_: Any) -> None:
        take(event, cluster.instances, None)

    @kopf.index(plural=NodeCheckpoint.plural, **api)
    async def known_copies(event: kopf.RawEvent, **_: Any) -> None:
        take(event, cluster.copies, None)

    @kopf.index(plural=NodeAgent.plural, **api)
    async def known_agents(event: kopf.RawEvent, **_: Any) -> None:
        take(event, cluster.agents, None)

    @kopf.index("", "v1", "nodes", registry=registry)
    async def known_nodes(event: kopf.RawEvent, **_: Any) -> None:
        take_node(event, cluster)

    @kopf.on.event(plural=Checkpoint.plural, **api)
    async def checkpoint(event: kopf.RawEvent, **_: Any) -> None:
        take(event, cluster.checkpoints, checkpoints)
        metadata = event["object"]["metadata"]
        queue_waiting(Key(metadata["namespace"], metadata["name"]))

    @kopf.on.event(plural=DemoInstance.plural, **api)
    async def demoinstance(event: kopf.RawEvent, **_: Any) -> None:
        take(event, cluster.instances, instances)

    @kopf.on.event(plural=NodeCheckpoint.plural, **api)
    async def nodecheckpoint(event: kopf.RawEvent, **_: Any) -> None:
        take(event, cluster.copies, None)
        metadata = event["object"]["metadata"]
        owner = Key(metadata["namespace"], event["object"]["spec"]["checkpoint"])
        checkpoints.add(owner)
        queue_waiting(owner)

    @kopf.on.event(plural=NodeAgent.plural, **api)
    async def nodeagent(event: kopf.RawEvent, **_: Any) -> None:
        before = cluster.agents.get(Key("", event["object"]["metadata"]["name"]))
        take(event, cluster.agents, None)
        after = cluster.agents.get(Key("", event["object"]["metadata"]["name"]))
        # Most reports only say that the agent lives.
        if before is None or after is None or _abilities(before) != _abilities(after):
            queue_all()

    @kopf.on.event("", "v1", "nodes", registry=registry)
    async def node(event: kopf.RawEvent, **_: Any) -> None:
        before = dict(cluster.node_labels)
        take_node(event, cluster)
        if before != cluster.node_labels:
            queue_all()

    def queue_waiting(owner: Key) -> None:
        for instance in cluster.instances_of(owner):
            if instance.status.node_name is None:
                instances.add(instance.key)

    def queue_all() -> None:
        for each in cluster.checkpoints:
            checkpoints.add(each.key)
            queue_waiting(each.key)


def _abilities(agent: NodeAgent) -> tuple[object, ...]:
    status = agent.status
    conditions = sorted((c.type, c.status, c.message) for c in status.conditions)
    return conditions, status.capacity, status.transfer_url, status.transfer_certificate


def take_node(event: kopf.RawEvent, cluster: Cluster) -> None:
    """Remember which nodes there are, and their labels."""
    metadata = event["object"]["metadata"]
    if event["type"] == "DELETED":
        cluster.node_labels.pop(metadata["name"], None)
    else:
        cluster.node_labels[metadata["name"]] = dict(metadata.get("labels") or {})
