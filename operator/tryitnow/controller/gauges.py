"""Gauges: the state of the cluster, read for the controller's metrics at each scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from tryitnow.api.checkpoint import Checkpoint, CheckpointPhase
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import Key, find_condition
from tryitnow.api.nodeagent import Verdict
from tryitnow.api.nodecheckpoint import NodeCheckpointPhase
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.nodes import NodeState
from tryitnow.controller.usage import UNDER_WAY
from tryitnow.metrics.cluster import (
    CHECKPOINT_ARCHIVE_BYTES,
    CHECKPOINT_FAILED_BUILDS,
    CHECKPOINT_NODES_DESIRED,
    CHECKPOINT_NODES_READY,
    CHECKPOINT_PHASE,
    CHECKPOINT_POOL_DESIRED,
    CHECKPOINT_POOL_READY,
    INSTANCES,
    NODE_CAN_RESTORE,
    NODE_CAPACITY,
    NODE_CHECK,
    NODE_CHECKPOINTS,
    NODE_INSTANCES,
    NODE_MEMORY_BYTES,
    NODE_READY,
    NODE_UP,
    OLDEST_WAITING,
)
from tryitnow.metrics.instruments import Reading


def gauges(cluster: Cluster, at: datetime) -> Iterator[Reading]:
    """Read the cluster's state from the stores; nothing before all kinds are listed.

    Half of a cluster would look like a cluster with missing NodeCheckpoints and lost nodes.
    """
    if not cluster.listed:
        return
    for checkpoint in cluster.checkpoints:
        yield from _checkpoint(checkpoint)
    yield from _node_checkpoints(cluster)
    yield from _instances(cluster, at)
    for state in cluster.node_states():
        yield from _node(state, cluster.load(state.name))


def _checkpoint(checkpoint: Checkpoint) -> Iterator[Reading]:
    labels = tuple(checkpoint.key)
    status = checkpoint.status
    for phase in CheckpointPhase:
        yield Reading(CHECKPOINT_PHASE, status.phase is phase, (*labels, str(phase)))
    yield Reading(CHECKPOINT_NODES_READY, status.nodes_ready, labels)
    yield Reading(CHECKPOINT_NODES_DESIRED, status.nodes_desired, labels)
    yield Reading(CHECKPOINT_POOL_READY, status.warm_ready, labels)
    yield Reading(CHECKPOINT_POOL_DESIRED, checkpoint.spec.pool.warm, labels)
    yield Reading(CHECKPOINT_FAILED_BUILDS, status.build_attempts, labels)
    if status.archive is not None:
        yield Reading(CHECKPOINT_ARCHIVE_BYTES, status.archive.size_bytes, labels)


def _node_checkpoints(cluster: Cluster) -> Iterator[Reading]:
    found = Counter(
        (
            node_checkpoint.metadata.namespace,
            node_checkpoint.spec.checkpoint,
            node_checkpoint.status.phase,
        )
        for node_checkpoint in cluster.node_checkpoints
    )
    for checkpoint in cluster.checkpoints:
        for phase in NodeCheckpointPhase:
            labels = (*checkpoint.key, phase)
            yield Reading(NODE_CHECKPOINTS, found[labels], (*checkpoint.key, str(phase)))


def _instances(cluster: Cluster, at: datetime) -> Iterator[Reading]:
    # An instance may name a Checkpoint that is not there (yet): it is shown all the same.
    found: Counter[tuple[Key, DemoInstancePhase]] = Counter()
    ages = {checkpoint.key: 0.0 for checkpoint in cluster.checkpoints}
    for instance in cluster.instances:
        key = instance.checkpoint_key
        phase = instance.status.phase
        if instance.is_deleting:
            phase = DemoInstancePhase.TERMINATING
        found[key, phase] += 1
        since = _waits_since(instance) if phase in UNDER_WAY else None
        age = (at - since).total_seconds() if since is not None else 0.0
        ages[key] = max(ages.get(key, 0.0), age)
    for key, age in ages.items():
        for phase in DemoInstancePhase:
            yield Reading(INSTANCES, found[key, phase], (*key, str(phase)))
        yield Reading(OLDEST_WAITING, age, tuple(key))


def _waits_since(instance: DemoInstance) -> datetime | None:
    ready = find_condition(instance.status.conditions, "Ready")
    if instance.status.ready_at is not None and ready is not None:
        return ready.last_transition_time  # it was ready before, and was reset
    return instance.metadata.creation_timestamp


def _node(state: NodeState, instances: int) -> Iterator[Reading]:
    node = (state.name,)
    status = state.agent.status
    yield Reading(NODE_UP, not state.is_lost, node)
    yield Reading(NODE_READY, state.can_run, node)
    yield Reading(NODE_CAN_RESTORE, state.can_restore, node)
    yield Reading(NODE_INSTANCES, instances, node)
    yield Reading(NODE_CAPACITY, status.capacity, node)
    yield Reading(NODE_MEMORY_BYTES, status.memory_available_bytes, node)
    for check in status.checks:
        for verdict in Verdict:
            labels = (*node, check.name, str(verdict))
            yield Reading(NODE_CHECK, check.verdict is verdict, labels)
