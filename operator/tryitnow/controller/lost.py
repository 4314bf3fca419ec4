"""Nodes that fell silent or are gone: nothing waits for them for ever."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime

from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import ConditionStatus, Resource, find_condition
from tryitnow.controller.cluster import Cluster
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ConflictError, NotFoundError, RefusedError

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
    for resource, node in _held(cluster):
        if not is_lost(cluster, node, at):
            continue
        try:
            if resource.is_deleting:
                await _release(kubernetes, resource, node)
            elif isinstance(resource, DemoInstance):
                await _say_lost(kubernetes, cluster, resource, node)
        except RefusedError as error:
            # It will be refused in each sweep: that must not keep the others waiting.
            logger.error("%s on lost node %s: %s", resource.key, node, error)


def _held(cluster: Cluster) -> Iterator[tuple[Resource, str]]:
    for instance in cluster.instances:
        if instance.status.node_name is not None:
            yield instance, instance.status.node_name
    for copy in cluster.copies:
        yield copy, copy.spec.node_name


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
    if instance.status.phase is DemoInstancePhase.FAILED:
        return
    message = (
        f"the agent of node {node} is silent; the demo may still run there. "
        "Delete this DemoInstance and create another to get one on a living node"
    )
    status = instance.status.with_condition(
        instance, "Ready", ConditionStatus.UNKNOWN, NODE_LOST, message
    )
    try:
        cluster.instances.update(await kubernetes.patch_status(instance, status.to_api()))
    except NotFoundError:
        return
    kubernetes.event(instance, NODE_LOST, message, warning=True)
