"""The status of a Checkpoint that a plan amounts to, as people, kubectl and kstatus read it."""

from __future__ import annotations

from tryitnow.api.checkpoint import Checkpoint, CheckpointStatus
from tryitnow.api.meta import (
    CHECKPOINT_LABEL,
    Condition,
    ConditionStatus,
    find_condition,
    set_condition,
)
from tryitnow.controller.plan import Plan
from tryitnow.controller.refusals import Attempt

Status = ConditionStatus


def status_from(checkpoint: Checkpoint, plan: Plan) -> CheckpointStatus:
    """Return the status that a plan amounts to."""
    before, pool = checkpoint.status, checkpoint.spec.pool
    conditions = _conditions(checkpoint, plan)
    ready = find_condition(conditions, "Ready")
    serving, distribution = plan.serving, plan.distribution
    return CheckpointStatus(
        observed_generation=checkpoint.metadata.generation,
        phase=plan.phase,
        conditions=tuple(conditions),
        current_revision=serving.revision,
        candidate_revision=plan.candidate,
        archive=serving.archive,
        nodes_ready=distribution.nodes_ready,
        nodes_desired=distribution.nodes_desired,
        nodes=f"{distribution.nodes_ready}/{distribution.nodes_desired}",
        warm_ready=plan.pool.ready,
        warm=f"{plan.pool.ready}/{pool.warm}" if pool.warm or plan.pool.ready else None,
        warm_message=plan.pool.message,
        selector=f"{CHECKPOINT_LABEL}={checkpoint.metadata.name}",
        revision_number=max(before.revision_number, plan.newest_number),
        build_attempts=plan.build.failures.attempts,
        build_faults=plan.build.failures.faults,
        last_failure=plan.build.failures.last,
        retry_at=plan.build.failures.retry_at,
        build_duration=serving.build_duration if serving.revision else before.build_duration,
        ready_since=(ready.last_transition_time if ready and ready.status is Status.TRUE else None),
    )


def _conditions(checkpoint: Checkpoint, plan: Plan) -> list[Condition]:
    conditions = [
        condition
        for condition in checkpoint.status.conditions
        if condition.type != "Stalled" or plan.build.is_stalled
    ]
    found: list[tuple[str, Status, str, str]] = [
        ("Ready", _ready(checkpoint, plan), plan.reason or "Pending", plan.message),
        _verified(plan),
        _distributed(plan),
    ]
    if plan.build.is_stalled:
        found.append(("Stalled", Status.TRUE, plan.reason, plan.message))
    generation = checkpoint.metadata.generation
    for type_, status, reason, message in found:
        conditions = set_condition(
            conditions, type_, status, reason, message, generation=generation
        )
    return conditions


def _ready(checkpoint: Checkpoint, plan: Plan) -> Status:
    before = find_condition(checkpoint.status.conditions, "Ready")
    was_ready = before is not None and before.status is Status.TRUE
    if plan.serving.revision is None:
        is_first = before is None or before.status is Status.UNKNOWN
        is_under_way = plan.build.failures.last is None and not plan.refused
        return Status.UNKNOWN if is_first and is_under_way else Status.FALSE
    if plan.distribution.is_fetching and not was_ready:
        # The first nodes still fetch. Later a missing NodeCheckpoint changes nothing.
        return Status.FALSE
    return Status.TRUE if plan.distribution.nodes_ready else Status.FALSE


def _verified(plan: Plan) -> tuple[str, Status, str, str]:
    revision = plan.serving.revision
    if revision is None:
        return "Verified", Status.FALSE, "NotBuilt", ""
    message = f"a test restore of revision {plan.serving.label} answered"
    return "Verified", Status.TRUE, "TestRestoreAnswered", message


def _distributed(plan: Plan) -> tuple[str, Status, str, str]:
    is_verified = plan.serving.revision is not None
    missing, desired = plan.distribution.missing, plan.distribution.nodes_desired
    held = desired - len(missing) if is_verified else 0
    message = f"{held} of {desired} nodes have a Ready NodeCheckpoint"
    if is_verified and not missing:
        return "Distributed", Status.TRUE, "OnAllNodes", message
    if missing:
        message += f"; missing: {', '.join(missing)}"
    about = {Attempt.CREATE, Attempt.UPDATE}
    refusal = next((each for each in plan.refused if each.attempt in about), None)
    if refusal is None:
        return "Distributed", Status.FALSE, "NodeCheckpointsMissing", message
    return "Distributed", Status.FALSE, refusal.reason, f"{message}. {refusal}"
