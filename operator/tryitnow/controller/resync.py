"""A fresh list of everything: a watch that broke off may have missed something."""

from __future__ import annotations

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key, Resource
from tryitnow.api.node import ClusterNode
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.handlers import queue_all
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.store import R, Store
from tryitnow.workqueue import WorkQueue


async def resync(
    kubernetes: KubernetesApi, cluster: Cluster, checkpoints: WorkQueue, instances: WorkQueue
) -> None:
    """List all kinds, and queue every object that changed without being known.

    Raises:
        KubernetesError: the API server refused or did not answer.

    """
    await _relist(kubernetes, ClusterNode, cluster.nodes)
    await _relist(kubernetes, NodeAgent, cluster.agents)
    await _relist(kubernetes, NodeCheckpoint, cluster.node_checkpoints)
    await _relist(kubernetes, CheckpointRevision, cluster.revisions)
    await _relist(kubernetes, Checkpoint, cluster.checkpoints)
    for key in await _relist(kubernetes, DemoInstance, cluster.instances):
        instances.add(key)
    queue_all(cluster, checkpoints, instances)


async def _relist(kubernetes: KubernetesApi, model: type[R], store: Store[R]) -> set[Key]:
    """Make a fresh list the truth of a store; return the keys that changed or are gone."""
    listing = await kubernetes.list_all(model)
    changed = {each.key for each in listing.items if not _is_same(store.get(each.key), each)}
    return changed | store.replace(listing)


def _is_same(known: Resource | None, listed: Resource) -> bool:
    version = listed.metadata.resource_version
    return known is not None and known.metadata.resource_version == version
