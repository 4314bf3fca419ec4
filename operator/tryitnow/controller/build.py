"""The build of the revision that the spec describes: its node, its progress, its failures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tryitnow.api.checkpoint import BuildFailure, Checkpoint, CheckpointPhase
from tryitnow.api.meta import find_condition
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase, NodeCheckpointSpec
from tryitnow.controller.nodes import NodeState, preference
from tryitnow.controller.observed import Observed, PlannedEvent
from tryitnow.controller.refusals import Attempt
from tryitnow.controller.retry import is_fault, is_final, pause
from tryitnow.controller.usage import archive_disk_bytes

Phase = NodeCheckpointPhase

RESYNC_INTERVAL = timedelta(seconds=20)
"""A node that falls silent causes no event: the plan must check for it."""

BUILD_RESYNC_INTERVAL = timedelta(seconds=5)
"""The same during a build."""


@dataclass(frozen=True)
class Failures:
    """The failed builds of one revision."""

    attempts: int = 0
    faults: int = 0
    """Those for which the definition or the application is to blame."""

    last: BuildFailure | None = None
    retry_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether only a change of the spec starts another build."""
        return self.last is not None and is_final(self.last.reason, self.faults)


@dataclass(frozen=True, kw_only=True)
class Build:
    """The state of the build, and the next actions."""

    phase: CheckpointPhase = CheckpointPhase.PENDING
    reason: str = ""
    message: str = ""
    order: NodeCheckpointSpec | None = None
    """The NodeCheckpoint to create on the node that builds."""

    delete: tuple[NodeCheckpoint, ...] = ()
    """Leftovers of earlier builds."""

    failures: Failures = field(default_factory=Failures)
    events: tuple[PlannedEvent, ...] = ()
    requeue_after: timedelta = RESYNC_INTERVAL

    @property
    def is_stalled(self) -> bool:
        """Whether it was given up."""
        return self.phase is CheckpointPhase.FAILED


def plan_build(observed: Observed) -> Build:
    """Decide about the build of the wanted revision, of which no good NodeCheckpoint exists."""
    mine = [
        node_checkpoint
        for node_checkpoint in observed.present
        if node_checkpoint.spec.revision == observed.wanted
    ]
    building = [
        node_checkpoint
        for node_checkpoint in mine
        if node_checkpoint.spec.fetch is None and not node_checkpoint.is_deleting
    ]
    failures = _known_failures(observed)
    events: list[PlannedEvent] = []
    failed: list[NodeCheckpoint] = []
    for node_checkpoint in building:
        failure = _failure_of(observed, node_checkpoint)
        if failure is None:
            return replace(
                _under_way(node_checkpoint, failures), delete=tuple(failed), events=tuple(events)
            )
        failed.append(node_checkpoint)
        if (
            failures.last is None
            or failures.last.node_checkpoint_uid != node_checkpoint.metadata.uid
        ):
            # Counted once, however often it is seen.
            failures = _add(failures, failure)
            note = f"on {failure.node_name}: {failure.message}"
            events.append(PlannedEvent(failure.reason, note, is_warning=True))
    if building or any(node_checkpoint.is_deleting for node_checkpoint in mine):
        waiting = "waiting until the leftovers of an earlier build are removed"
        result = _after_failure(observed, failures, tuple(failed), tuple(events))
        return result or Build(reason="CleaningUp", message=waiting)
    # Nodes that fetch have no source any more.
    leftovers = tuple(mine)
    is_paused = failures.retry_at is not None and failures.retry_at > observed.at
    if failures.is_final or is_paused:
        result = _after_failure(observed, failures, leftovers)
        if result is not None:
            return result
    return _order(observed, failures, leftovers)


def _known_failures(observed: Observed) -> Failures:
    """Return the failures so far; a new revision starts without any."""
    status = observed.checkpoint.status
    if observed.wanted not in {status.candidate_revision, status.current_revision}:
        return Failures()
    return Failures(
        status.build_attempts, status.build_faults, status.last_failure, status.retry_at
    )


def _failure_of(observed: Observed, node_checkpoint: NodeCheckpoint) -> BuildFailure | None:
    """Return why a build will not succeed; None while it may."""
    node = node_checkpoint.spec.node_name
    state = observed.nodes.get(node)
    if node_checkpoint.status.phase is Phase.FAILED:
        condition = find_condition(node_checkpoint.status.conditions, "Ready")
        reason = condition.reason if condition else "BuildFailed"
        message = condition.message if condition else ""
    elif node_checkpoint.status.phase is Phase.QUARANTINED:
        condition = find_condition(node_checkpoint.status.conditions, "Ready")
        why = f": {condition.message}" if condition and condition.message else ""
        reason, message = "ArchiveLost", f"the last archive, on {node}, cannot be used{why}"
    elif node_checkpoint.is_ready and (doubt := observed.doubt(node_checkpoint)):
        reason, message = "ReportRefused", doubt
    elif state is None or state.is_lost:
        reason, message = "NodeLost", f"node {node} stopped reporting during the build"
    else:
        return None
    return BuildFailure(
        node_checkpoint_uid=node_checkpoint.metadata.uid,
        node_name=node,
        reason=reason,
        message=message,
        time=observed.at,
    )


def _add(failures: Failures, failure: BuildFailure) -> Failures:
    attempts = failures.attempts + 1
    faults = failures.faults + is_fault(failure.reason)
    retry_at = failure.time + pause(attempts, failure.node_checkpoint_uid)
    return Failures(
        attempts, faults, failure, None if is_final(failure.reason, faults) else retry_at
    )


def _under_way(node_checkpoint: NodeCheckpoint, failures: Failures) -> Build:
    verifying = node_checkpoint.status.phase is Phase.VERIFYING
    phase = CheckpointPhase.VERIFYING if verifying else CheckpointPhase.BUILDING
    progress = node_checkpoint.status.progress or "waiting for its agent"
    message = f"on {node_checkpoint.spec.node_name}: {progress}"
    if failures.last is not None:
        # Each new try would hide the cause otherwise.
        last = failures.last
        message += f"\nThe last try, on {last.node_name}, failed: {last.message}"
    return Build(
        phase=phase,
        reason=str(phase),
        message=message,
        failures=failures,
        requeue_after=BUILD_RESYNC_INTERVAL,
    )


def _after_failure(
    observed: Observed,
    failures: Failures,
    delete: tuple[NodeCheckpoint, ...],
    events: tuple[PlannedEvent, ...] = (),
) -> Build | None:
    """Describe the last failure and the next step; None without a failure."""
    if failures.last is None:
        return None
    left = failures.retry_at - observed.at if failures.retry_at else timedelta()
    if failures.is_final:
        ahead = f"Given up after {failures.faults} tries: change the spec to try again."
    elif left > timedelta():
        ahead = f"Next try in {left.total_seconds():.0f} s."
    else:
        ahead = "Trying again."
    return Build(
        phase=CheckpointPhase.FAILED if failures.is_final else CheckpointPhase.PENDING,
        reason=failures.last.reason,
        message=f"{failures.last.message}\n{ahead} (node {failures.last.node_name})",
        delete=delete,
        failures=failures,
        events=events,
        requeue_after=left if left > timedelta() else RESYNC_INTERVAL,
    )


def _order(observed: Observed, failures: Failures, leftovers: tuple[NodeCheckpoint, ...]) -> Build:
    """Have a node build, where one can and the API server lets us say so."""
    if observed.wanted not in observed.revisions:
        # Its agent reads the definition there.
        reason, message = _no_revision(observed)
        return Build(reason=reason, message=message, delete=leftovers, failures=failures)
    avoid = failures.last.node_name if failures.last else None
    builder = choose_builder(observed.checkpoint, observed.selected, avoid)
    if builder is None:
        reason, message = _nobody_builds(observed)
        return Build(reason=reason, message=message, delete=leftovers, failures=failures)
    if (refusal := observed.refused.get(Attempt.CREATE)) is not None:
        message = f"no build can be ordered on {builder.name}: {refusal}"
        return Build(reason=refusal.reason, message=message, delete=leftovers, failures=failures)
    order = NodeCheckpointSpec(
        checkpoint=observed.checkpoint.metadata.name,
        revision=observed.wanted,
        node_name=builder.name,
    )
    return Build(
        phase=CheckpointPhase.BUILDING,
        reason="Building",
        message=f"on {builder.name}: not ordered yet",
        order=order,
        delete=leftovers,
        failures=failures,
        requeue_after=BUILD_RESYNC_INTERVAL,
    )


def _no_revision(observed: Observed) -> tuple[str, str]:
    refusal = observed.refused.get(Attempt.CREATE_REVISION)
    if refusal is not None:
        return refusal.reason, f"the revision cannot be created: {refusal}"
    return "RevisionPending", "waiting until the CheckpointRevision of this spec is created"


def choose_builder(
    checkpoint: Checkpoint, candidates: list[NodeState], avoid: str | None
) -> NodeState | None:
    """Return the node that is to build: one that can checkpoint, and that did not fail last.

    The one that failed builds again only where no other can. A build needs memory for the
    application twice (at the checkpoint, and in the test restore), so memory decides before chance.
    Before that, the processor that most nodes can go on from: where they differ, the oldest.
    """
    disk_bytes = _expected_disk_bytes(checkpoint)
    able = [state for state in candidates if not _unable_reason(state, disk_bytes)]
    return min(
        able,
        key=lambda state: (
            state.name == avoid,
            -_takers(state, candidates),
            # In steps of a gigabyte, or the noise of a few pages would decide.
            -(state.memory_available_bytes >> 30),
            preference(checkpoint.metadata.uid, state.name),
        ),
        default=None,
    )


def _takers(builder: NodeState, candidates: list[NodeState]) -> int:
    """Return how many nodes have the processor for what one builds, as far as it is known."""
    made_with = builder.agent.status.versions
    return sum(not state.agent.status.versions.missing_for(made_with) for state in candidates)


def _expected_disk_bytes(checkpoint: Checkpoint) -> int:
    """Estimate the disk that the archive takes: as much as that of the revision before."""
    return archive_disk_bytes(checkpoint.status.archive)


def _unable_reason(state: NodeState, disk_bytes: int) -> str:
    """Say why a node cannot build; empty where it can."""
    if not state.may_build:
        return "is no builder"
    if closed := state.closed_reason(disk_bytes):
        ready = find_condition(state.agent.status.conditions, "Ready")
        is_unfit = not state.is_lost and not state.agent.is_fit
        return f"{closed}: {ready.message}" if is_unfit and ready and ready.message else closed
    if not state.can_restore:
        criu = find_condition(state.agent.status.conditions, "CRIUAvailable")
        return criu.message if criu else "has not reported yet"
    return ""


def _nobody_builds(observed: Observed) -> tuple[str, str]:
    if not observed.selected:
        return "NoNode", (
            "no node runs an agent and matches spec.distribution.nodeSelector; "
            "see `kubectl get nodeagents`"
        )
    disk_bytes = _expected_disk_bytes(observed.checkpoint)
    why = "; ".join(
        f"{state.name}: {_unable_reason(state, disk_bytes)}" for state in observed.selected
    )
    if not any(state.may_build for state in observed.selected):
        return "NoBuilder", (
            "no selected node may build: give one of them the labels of controller.builderSelector "
            f"(docs/nodes.md).  {why}"
        )
    if all(state.closed_reason(disk_bytes) for state in observed.selected):
        return "NoNode", f"no selected node can take a build.  {why}"
    return "CRIUNotAvailable", (
        f"no selected node can checkpoint it; demos start cold until one can. {why}"
    )
