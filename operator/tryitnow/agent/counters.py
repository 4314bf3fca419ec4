"""What happens on this node, as its metrics count and time it."""

from __future__ import annotations

from datetime import timedelta

from tryitnow.agent.archive import ArchiveError
from tryitnow.agent.names import ContainerName, Role
from tryitnow.agent.node import Node
from tryitnow.agent.probe import NotReadyError
from tryitnow.api.demoinstance import (
    DemoInstance,
    FallbackReason,
    RestoredFrom,
    StartedBy,
    StartPolicy,
    Timings,
)
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.metrics.family import Counted
from tryitnow.metrics.node import BUILD_DURATION, BUILDS, FETCH_DURATION, FETCHES
from tryitnow.metrics.starts import (
    CLAIMS,
    RESTORE_DURATION,
    RESTORES,
    START_DURATION,
    START_FAILURES,
    START_PHASE_DURATION,
    STARTS,
)
from tryitnow.podman.errors import CRIUError, ImagePullError, PodmanError, PodmanUnreachableError

_RESULTS: tuple[tuple[type[BaseException], str], ...] = (
    (NotReadyError, "NotReady"),
    (ArchiveError, "CopyCorrupt"),
    (ImagePullError, "ImagePullFailed"),
    (CRIUError, "CRIUFailed"),
    (PodmanUnreachableError, "PodmanUnreachable"),
    (PodmanError, "PodmanFailed"),
    (OSError, "DiskFailed"),
)
"""The first that fits; whatever else ends a restore (a deletion, the agent's end) says nothing
about restores."""


_COLD_REASONS: dict[StartPolicy, tuple[str, ...]] = {
    StartPolicy.COLD_START: ("",),
    StartPolicy.PREFER_RESTORE: tuple(map(str, FallbackReason)),
    StartPolicy.RESTORE_ONLY: (),
}
"""Why a demo may be started cold, by what it asks for: empty where it is just that."""


_RESTORE_PHASES = ("bind", "queue", "prepare", "restore", "criu", "probe")
"""Steps that every restore takes."""


def instance_seen(node: Node, instance: DemoInstance) -> None:
    """Show zeros of its start before there is a one: where no copy lies, nothing else does.

    A counter that begins with one has not increased, as Prometheus sees it.
    """
    _expect_cold_starts(node, instance.checkpoint_key, instance.spec.start)


def _expect_cold_starts(node: Node, checkpoint: Key, policy: StartPolicy) -> None:
    for reason in _COLD_REASONS[policy]:
        node.metrics.expect(
            STARTS,
            **_labels(checkpoint),
            policy=str(policy),
            method=str(StartedBy.COLD_START),
            fallback_reason=reason,
        )


def instance_started(
    node: Node,
    instance: DemoInstance,
    started_by: StartedBy,
    restored_from: RestoredFrom | None,
    fallback: FallbackReason | None,
    timings: Timings,
) -> None:
    """Count and time an instance that became ready."""
    labels = _labels(instance.checkpoint_key)
    node.metrics.count(
        STARTS,
        **labels,
        policy=str(instance.spec.start),
        method=str(started_by),
        fallback_reason=str(fallback or ""),
    )
    if timings.total is not None:
        node.metrics.observe(
            START_DURATION, timings.total.total_seconds(), **labels, method=str(started_by)
        )
    for field in type(timings).model_fields:
        took: timedelta | None = getattr(timings, field)
        if took is not None and field != "total":
            node.metrics.observe(
                START_PHASE_DURATION,
                took.total_seconds(),
                method=str(started_by),
                source=str(restored_from or ""),
                phase=field,
            )


def start_failed(node: Node, instance: DemoInstance, reason: str) -> None:
    """Count a try to start an instance that failed altogether."""
    node.metrics.count(START_FAILURES, **_labels(instance.checkpoint_key), reason=reason)


def count_instance(node: Node, family: Counted, instance: DemoInstance) -> None:
    """Count what happened to an instance."""
    node.metrics.count(family, **_labels(instance.checkpoint_key))


def claim_ended(node: Node, copy: NodeCheckpoint, result: str) -> None:
    """Count a look for a warm copy."""
    node.metrics.count(CLAIMS, **_labels(copy.checkpoint_key), result=result)


def restore_ended(
    node: Node,
    checkpoint: Key,
    name: ContainerName,
    source: RestoredFrom,
    outcome: timedelta | BaseException,
) -> None:
    """Count a restore, and time one that answers."""
    if isinstance(outcome, timedelta):
        result = "Ready"
        node.metrics.observe(
            RESTORE_DURATION, outcome.total_seconds(), source=str(source), purpose=str(name.role)
        )
    else:
        fitting = (result for kind, result in _RESULTS if isinstance(outcome, kind))
        result = next(fitting, "")
    if result:
        node.metrics.count(
            RESTORES,
            **_labels(checkpoint),
            source=str(source),
            purpose=str(name.role),
            result=result,
        )


def build_ended(node: Node, copy: NodeCheckpoint, result: str, took: timedelta) -> None:
    """Count a build; ``Verified`` is timed as well."""
    labels = _labels(copy.checkpoint_key)
    node.metrics.count(BUILDS, **labels, result=result)
    if result == "Verified":
        node.metrics.observe(BUILD_DURATION, took.total_seconds(), **labels)


def fetch_ended(node: Node, copy: NodeCheckpoint, result: str, took: timedelta) -> None:
    """Count a copy from another node; ``Fetched`` is timed as well."""
    node.metrics.count(FETCHES, **_labels(copy.checkpoint_key), result=result)
    if result == "Fetched":
        node.metrics.observe(FETCH_DURATION, took.total_seconds())


def count_copy(node: Node, family: Counted, copy: NodeCheckpoint, reason: str) -> None:
    """Count what happened to a copy."""
    node.metrics.count(family, **_labels(copy.checkpoint_key), reason=reason)


def copy_seen(node: Node, copy: NodeCheckpoint) -> None:
    """Show from the beginning what alerts compare: a burst of starts may be the very first."""
    labels = _labels(copy.checkpoint_key)
    pooled = copy.spec.pool.warm > 0
    ways = {StartedBy.RESTORE, StartedBy.COLD_START} | ({StartedBy.WARM} if pooled else set())
    wanted = {**labels, "policy": str(StartPolicy.PREFER_RESTORE)}
    for way in ways:
        node.metrics.expect(START_DURATION, **labels, method=str(way))
        if way is not StartedBy.COLD_START:
            node.metrics.expect(STARTS, **wanted, method=str(way), fallback_reason="")
    _expect_cold_starts(node, copy.checkpoint_key, StartPolicy.PREFER_RESTORE)
    for phase in _RESTORE_PHASES:
        node.metrics.expect(
            START_PHASE_DURATION,
            method=str(StartedBy.RESTORE),
            source=str(RestoredFrom.PREPARED),
            phase=phase,
        )
    for purpose in {Role.DEMO} | ({Role.WARM} if pooled else set()):
        for source in RestoredFrom:
            for result in ("Ready", "NotReady", "CRIUFailed"):
                restore = {"source": str(source), "purpose": str(purpose), "result": result}
                node.metrics.expect(RESTORES, **labels, **restore)
    for result in ("Claimed", "Empty") if pooled else ():
        node.metrics.expect(CLAIMS, **labels, result=result)


def copy_removed(node: Node, copy: NodeCheckpoint) -> None:
    """Drop the series of a Checkpoint with its last copy, so that they do not grow for ever."""
    checkpoint = copy.checkpoint_key
    if not any(other.checkpoint_key == checkpoint for other in node.copies):
        node.metrics.forget(**_labels(checkpoint))


def _labels(checkpoint: Key) -> dict[str, str]:
    return {"namespace": checkpoint.namespace, "checkpoint": checkpoint.name}
