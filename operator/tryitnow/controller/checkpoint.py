"""Carrying out the plan for a Checkpoint, and writing its status."""

from __future__ import annotations

import logging
from datetime import timedelta

from tryitnow.api.checkpoint import Checkpoint, CheckpointStatus
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.meta import (
    CHECKPOINT_LABEL,
    Condition,
    ConditionStatus,
    Key,
    find_condition,
    now,
    set_condition,
)
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.cluster import UNDER_WAY, Cluster
from tryitnow.controller.distribute import selected
from tryitnow.controller.plan import LOOK_AGAIN, Observed, Plan, creation, plan
from tryitnow.controller.revisions import (
    drop_unneeded,
    ensure_revision,
    identity_of,
    record_build,
)
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ConflictError

logger = logging.getLogger(__name__)

ARCHITECTURE = "kubernetes.io/arch"
"""Label that the kubelet puts on its Node (Kubernetes' well-known labels)."""


async def reconcile_checkpoint(
    kubernetes: KubernetesApi, cluster: Cluster, key: Key
) -> timedelta | None:
    """Bring one Checkpoint on; returns when to look again."""
    checkpoint = cluster.checkpoints.get(key)
    await drop_unneeded(kubernetes, cluster, key)
    if checkpoint is None or checkpoint.is_deleting:
        # Its NodeCheckpoints go with it: they are owned by it. Its revisions stay for its demos.
        return LOOK_AGAIN if cluster.revisions_of(key) else None
    revision = await ensure_revision(kubernetes, cluster, checkpoint)
    result = plan(observe(cluster, checkpoint))
    await _record_build(kubernetes, cluster, result, revision)
    # The pool before the status: who reads there that a copy waits may count on it.
    for copy, pool in result.repool:
        change = {"spec": {"pool": pool.to_api()}}
        cluster.copies.update(await kubernetes.patch(copy, change))
    # The status before what is removed: a failure is counted in there, and then cleared away.
    status = status_from(checkpoint, result)
    cluster.checkpoints.update(await kubernetes.patch_status(checkpoint, status.to_api()))
    for reason, note, is_warning in result.events:
        kubernetes.event(checkpoint, reason, note, warning=is_warning)
    for spec in result.create:
        try:
            created = await kubernetes.create(NodeCheckpoint, creation(checkpoint, spec))
        except ConflictError:
            # Made by a plan whose event has not come back yet, or a namesake is going away.
            continue
        cluster.copies.update(created)
        logger.info("%s: ordered %s", key, created.metadata.name)
    for copy, order in result.reorder:
        patch = {"spec": {"fetch": order.to_api()}}
        cluster.copies.update(await kubernetes.patch(copy, patch))
    for copy in result.delete:
        await kubernetes.delete(copy)
        logger.info("%s: dropped %s", key, copy.metadata.name)
    return result.look_again


async def _record_build(
    kubernetes: KubernetesApi, cluster: Cluster, result: Plan, revision: CheckpointRevision
) -> None:
    """Write what a build produced into the revision, once it serves."""
    if result.serving != revision.spec.identity or result.archive is None:
        return
    held = [
        c
        for c in cluster.copies_of(revision.checkpoint_key)
        if c.spec.revision == result.serving and c.is_ready and c.status.archive == result.archive
    ]
    if held:
        # The builder's first: it alone knows all images.
        first = min(held, key=lambda c: c.spec.fetch is not None)
        await record_build(kubernetes, cluster, revision, first)


def observe(cluster: Cluster, checkpoint: Checkpoint) -> Observed:
    """Gather what the plan is made from."""
    agents = {agent.metadata.name: agent for agent in cluster.agents}
    return Observed(
        checkpoint=checkpoint,
        wanted=identity_of(checkpoint),
        copies=cluster.copies_of(checkpoint.key),
        selected=selected(checkpoint.spec.distribution, agents.values(), cluster.node_labels),
        agents=agents,
        nodes={name: labels.get(ARCHITECTURE) for name, labels in cluster.node_labels.items()},
        cordoned=cluster.cordoned,
        starting=frozenset(
            i.status.revision
            for i in cluster.instances_of(checkpoint.key)
            if i.status.revision and i.status.phase in UNDER_WAY and not i.is_deleting
        ),
        at=now(),
    )


def status_from(checkpoint: Checkpoint, result: Plan) -> CheckpointStatus:
    """Return the status that a plan amounts to."""
    before, pool = checkpoint.status, checkpoint.spec.pool
    conditions = _conditions(checkpoint, result)
    ready = find_condition(conditions, "Ready")
    return CheckpointStatus(
        observed_generation=checkpoint.metadata.generation,
        phase=result.phase,
        conditions=tuple(conditions),
        current_revision=result.serving,
        candidate_revision=result.candidate,
        archive=result.archive,
        nodes_ready=result.nodes_ready,
        nodes_desired=result.nodes_desired,
        nodes=f"{result.nodes_ready}/{result.nodes_desired}",
        warm_ready=result.warm_ready,
        warm=f"{result.warm_ready}/{pool.warm}" if pool.warm or result.warm_ready else None,
        warm_message=result.warm_message,
        selector=f"{CHECKPOINT_LABEL}={checkpoint.metadata.name}",
        build_attempts=result.attempts,
        last_failure=result.failure,
        retry_at=result.retry_at,
        build_duration=result.build_duration if result.serving else before.build_duration,
        ready_since=(
            ready.last_transition_time if ready and ready.status is ConditionStatus.TRUE else None
        ),
    )


def _conditions(checkpoint: Checkpoint, result: Plan) -> list[Condition]:
    generation = checkpoint.metadata.generation
    was_ready = find_condition(checkpoint.status.conditions, "Ready")
    conditions = [c for c in checkpoint.status.conditions if c.type != "Stalled" or result.stalled]

    def say(type_: str, status: ConditionStatus, reason: str, message: str) -> None:
        nonlocal conditions
        conditions = set_condition(
            conditions, type_, status, reason, message, generation=generation
        )

    if result.serving is None:
        never = was_ready is None or was_ready.status is ConditionStatus.UNKNOWN
        under_way = never and result.failure is None
        ready = ConditionStatus.UNKNOWN if under_way else ConditionStatus.FALSE
    elif result.copying and not (was_ready and was_ready.status is ConditionStatus.TRUE):
        # The first copies are still on their way; from then on a missing one changes nothing.
        ready = ConditionStatus.FALSE
    else:
        ready = ConditionStatus.TRUE if result.nodes_ready else ConditionStatus.FALSE
    say("Ready", ready, result.reason or "Pending", result.message)
    verified = result.serving is not None
    say(
        "Verified",
        ConditionStatus.TRUE if verified else ConditionStatus.FALSE,
        "TestRestoreAnswered" if verified else "NotBuilt",
        f"a test restore of revision {result.serving} answered" if verified else "",
    )
    complete = verified and not result.missing
    held = result.nodes_desired - len(result.missing) if verified else 0
    say(
        "Distributed",
        ConditionStatus.TRUE if complete else ConditionStatus.FALSE,
        "AllCopies" if complete else "CopiesMissing",
        f"{held} of {result.nodes_desired} nodes hold a copy"
        + (f"; missing: {', '.join(result.missing)}" if result.missing else ""),
    )
    if result.stalled:
        say("Stalled", ConditionStatus.TRUE, result.reason, result.message)
    return conditions
