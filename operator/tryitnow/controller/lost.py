"""Nodes that fell silent or are gone: nothing waits for them for ever."""

from __future__ import annotations

import logging
from datetime import datetime

from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import ConditionStatus, Resource, find_condition, set_condition
from tryitnow.controller.cluster import Cluster
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ConflictError, NotFoundError

logger = logging.getLogger(__name__)

NODE_LOST = "NodeLost"


def is_lost(cluster: Cluster, node_name: str, at: datetime) -> bool:
    """Whether nobody on that node can be expected to act."""
    agent = cluster.agent(node_name)
    return agent is None or agent.is_lost(at) or node_name not in cluster.node_labels


async def sweep(kubernetes: KubernetesApi, cluster: Cluster, at: datetime) -> None:
    """Let go of what deleted objects wait for on lost nodes, and say which instances are cut off.

    When such a node comes back, its agent removes what nobody owns any more.
    """
    for instance in cluster.instances:
        node = instance.status.node_name
        if node is None or not is_lost(cluster, node, at):
            continue
        if instance.is_deleting:
            await _release(kubernetes, instance, node)
        elif instance.status.phase is not DemoInstancePhase.FAILED:
            await _say_lost(kubernetes, cluster, instance, node)
    for copy in cluster.copies:
        if copy.is_deleting and is_lost(cluster, copy.spec.node_name, at):
            await _release(kubernetes, copy, copy.spec.node_name)


async def _release(kubernetes: KubernetesApi, resource: Resource, node: str) -> None:
    if not resource.has_finalizer:
        return
    try:
        await kubernetes.remove_finalizer(resource)
    except ConflictError:
        return  # changed meanwhile: the next sweep sees how
    logger.warning("%s: let go without node %s, which is lost", resource.key, node)
    note = f"node {node} is lost: deleted without waiting for it"
    kubernetes.event(resource, NODE_LOST, note, warning=True)


async def _say_lost(
    kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance, node: str
) -> None:
    ready = find_condition(instance.status.conditions, "Ready")
    if ready is not None and ready.reason == NODE_LOST:
        return
    message = (
        f"the agent of node {node} is silent; the demo may still run there. "
        "Delete this DemoInstance and create another to get one on a living node"
    )
    conditions = set_condition(
        instance.status.conditions,
        "Ready",
        ConditionStatus.UNKNOWN,
        NODE_LOST,
        message,
        generation=instance.metadata.generation,
    )
    status = instance.status.model_copy(update={"conditions": tuple(conditions)})
    try:
        cluster.instances.take(await kubernetes.patch_status(instance, status.to_api()))
    except NotFoundError:
        return
    kubernetes.event(instance, NODE_LOST, message, warning=True)
