"""Nodes that fell silent or are gone: nothing waits for them for ever."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import ConditionStatus, find_condition
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.instance_status import write_status
from tryitnow.controller.refusals import Attempt, noting_refusal
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ConflictError, NotFoundError, RefusedError
from tryitnow.kubernetes.objects import AnyObject

logger = logging.getLogger(__name__)

NODE_LOST = "NodeLost"


async def release_lost_nodes(kubernetes: KubernetesApi, cluster: Cluster) -> None:
    """Remove the finalizers of deleted objects on lost nodes, and mark or end the instances there.

    When such a node comes back, its agent removes everything without an owner.
    """
    for node in sorted(cluster.holding_nodes()):
        lost_for = cluster.lost_for(node)
        if not cluster.is_lost(node):
            continue
        is_over = cluster.end_lost_after is not None and lost_for >= cluster.end_lost_after
        for object_ in _held(cluster, node):
            if object_.is_deleting:
                await _release(kubernetes, cluster, object_, node)
            elif isinstance(object_, DemoInstance) and is_over:
                await _end(kubernetes, cluster, object_, node)
            elif isinstance(object_, DemoInstance):
                await _mark_lost(kubernetes, cluster, object_, node)


def _held(cluster: Cluster, node: str) -> Iterator[AnyObject]:
    yield from cluster.instances_on(node)
    yield from cluster.node_checkpoints_on(node)
    yield from cluster.unreadable_on(node)


async def _release(
    kubernetes: KubernetesApi, cluster: Cluster, object_: AnyObject, node: str
) -> None:
    uid, name, refusals = object_.metadata.uid, object_.metadata.name, cluster.refusals
    if not object_.has_finalizer or not refusals.may_try(uid, Attempt.RELEASE, name):
        return
    try:
        with noting_refusal(kubernetes, refusals, object_, Attempt.RELEASE, name):
            await kubernetes.remove_finalizer(object_)
    except ConflictError:
        return  # changed meanwhile: the next time it is seen how
    except RefusedError as error:
        # It will be refused each time: that must not keep the others waiting.
        logger.error("%s on lost node %s: %s", object_.key, node, error)
        return
    logger.warning("%s: finalizer removed without node %s, which is lost", object_.key, node)
    note = f"node {node} is lost: deleted without waiting for it"
    kubernetes.event(object_, NODE_LOST, note, warning=True)


async def _end(
    kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance, node: str
) -> None:
    """Delete an instance whose node is lost for longer than the administrator waits.

    The next round removes its finalizer. Its hooks do not run: nobody is there to run them.
    """
    uid, name, refusals = instance.metadata.uid, instance.metadata.name, cluster.refusals
    if not refusals.may_try(uid, Attempt.END_LOST, name):
        return
    try:
        with noting_refusal(kubernetes, refusals, instance, Attempt.END_LOST, name):
            is_ours = await kubernetes.delete(instance, only_if_unchanged=True)
    except (ConflictError, NotFoundError):
        return  # changed meanwhile: the next time it is seen how
    except RefusedError as error:
        logger.error("%s on lost node %s: %s", instance.key, node, error)
        return
    if is_ours:
        note = (
            f"the agent of node {node} was silent for longer than controller.lostNode.endDemosAfter"
        )
        kubernetes.event(instance, "EndedOnLostNode", note, warning=True)
        logger.warning("%s: deleted: %s", instance.key, note)


async def _mark_lost(
    kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance, node: str
) -> None:
    ready = find_condition(instance.status.conditions, "Ready")
    if ready is not None and ready.reason == NODE_LOST:
        return
    if instance.status.phase is DemoInstancePhase.FAILED:
        return
    message = (
        f"the agent of node {node} is silent; the demo may still run there. "
        "Delete this DemoInstance and create another to get one on a working node"
    )
    status = instance.status.with_condition(
        instance, "Ready", ConditionStatus.UNKNOWN, NODE_LOST, message
    )
    try:
        written = await write_status(kubernetes, cluster, instance, status)
    except NotFoundError:
        return
    if written is not None:
        kubernetes.event(instance, NODE_LOST, message, warning=True)
