"""What happens on this node, as its metrics count and time it."""

from __future__ import annotations

from datetime import timedelta

from tryitnow.agent.errors import NodeShortError, NotReadyError
from tryitnow.agent.sandbox.names import ContainerName, Role
from tryitnow.api.demoinstance import (
    DemoInstance,
    FallbackReason,
    StartedBy,
    StartPolicy,
    Timings,
)
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.metrics.family import Counted
from tryitnow.metrics.instruments import Metrics
from tryitnow.metrics.node import BUILD_DURATION, BUILDS, FETCH_DURATION, FETCHES, QUARANTINES
from tryitnow.metrics.starts import (
    CLAIMS,
    DATA_LOST,
    RESTARTS,
    RESTORE_DURATION,
    RESTORES,
    START_DURATION,
    START_FAILURES,
    START_PHASE_DURATION,
    STARTS,
)
from tryitnow.podman.errors import CRIUError, NodeLimitError, PodmanError, PodmanUnreachableError

_RESULTS: tuple[tuple[type[BaseException], str], ...] = (
    (NotReadyError, "NotReady"),
    (NodeShortError, "NodeLimit"),
    (NodeLimitError, "NodeLimit"),
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


def demo_seen(metrics: Metrics, demo: DemoInstance) -> None:
    """Show zeros of its start before there is a one: where no archive is kept, nothing else does.

    A counter that begins with one has not increased, as Prometheus sees it.
    """
    _expect_cold_starts(metrics, demo.checkpoint_key, demo.spec.start)
    for family in (DATA_LOST, RESTARTS):
        metrics.expect(family, **_labels(demo.checkpoint_key))


def _expect_cold_starts(metrics: Metrics, checkpoint: Key, policy: StartPolicy) -> None:
    for reason in _COLD_REASONS[policy]:
        metrics.expect(
            STARTS,
            **_labels(checkpoint),
            policy=str(policy),
            method=str(StartedBy.COLD_START),
            fallback_reason=reason,
        )


def demo_started(
    metrics: Metrics,
    demo: DemoInstance,
    started_by: StartedBy,
    fallback: FallbackReason | None,
    timings: Timings,
) -> None:
    """Count and time a demo that became ready."""
    labels = _labels(demo.checkpoint_key)
    metrics.count(
        STARTS,
        **labels,
        policy=str(demo.spec.start),
        method=str(started_by),
        fallback_reason=str(fallback or ""),
    )
    if timings.total is not None:
        metrics.observe(
            START_DURATION, timings.total.total_seconds(), **labels, method=str(started_by)
        )
    for field in type(timings).model_fields:
        took: timedelta | None = getattr(timings, field)
        if took is not None and field != "total":
            metrics.observe(
                START_PHASE_DURATION, took.total_seconds(), method=str(started_by), phase=field
            )


def start_failed(metrics: Metrics, demo: DemoInstance, reason: str) -> None:
    """Count a try to start a demo that failed altogether."""
    metrics.count(START_FAILURES, **_labels(demo.checkpoint_key), reason=reason)


def count_demo(metrics: Metrics, family: Counted, demo: DemoInstance) -> None:
    """Count what happened to a demo."""
    metrics.count(family, **_labels(demo.checkpoint_key))


def claim_ended(metrics: Metrics, demo: DemoInstance, result: str) -> None:
    """Count a look for a warm sandbox."""
    metrics.count(CLAIMS, **_labels(demo.checkpoint_key), result=result)


def restore_ended(
    metrics: Metrics, checkpoint: Key, name: ContainerName, outcome: timedelta | BaseException
) -> None:
    """Count a restore, and time one that answers."""
    if isinstance(outcome, timedelta):
        result = "Ready"
        metrics.observe(RESTORE_DURATION, outcome.total_seconds(), purpose=str(name.role))
    else:
        fitting = (result for kind, result in _RESULTS if isinstance(outcome, kind))
        result = next(fitting, "")
    if result:
        metrics.count(RESTORES, **_labels(checkpoint), purpose=str(name.role), result=result)


def build_ended(
    metrics: Metrics, node_checkpoint: NodeCheckpoint, result: str, took: timedelta
) -> None:
    """Count a build; ``Verified`` is timed as well."""
    labels = _labels(node_checkpoint.checkpoint_key)
    metrics.count(BUILDS, **labels, result=result)
    if result == "Verified":
        metrics.observe(BUILD_DURATION, took.total_seconds(), **labels)


def fetch_ended(
    metrics: Metrics, node_checkpoint: NodeCheckpoint, result: str, took: timedelta
) -> None:
    """Count a fetch from another node; ``Fetched`` is timed as well."""
    metrics.count(FETCHES, **_labels(node_checkpoint.checkpoint_key), result=result)
    if result == "Fetched":
        metrics.observe(FETCH_DURATION, took.total_seconds())


def quarantined(metrics: Metrics, node_checkpoint: NodeCheckpoint, reason: str) -> None:
    """Count an archive that was taken out of service."""
    metrics.count(QUARANTINES, **_labels(node_checkpoint.checkpoint_key), reason=reason)


def node_checkpoint_seen(metrics: Metrics, node_checkpoint: NodeCheckpoint) -> None:
    """Show from the beginning what alerts compare: a burst of starts may be the very first."""
    checkpoint = node_checkpoint.checkpoint_key
    labels = _labels(checkpoint)
    pooled = node_checkpoint.spec.pool.warm > 0
    ways = {StartedBy.RESTORE, StartedBy.COLD_START} | ({StartedBy.WARM} if pooled else set())
    wanted = {**labels, "policy": str(StartPolicy.PREFER_RESTORE)}
    for way in ways:
        metrics.expect(START_DURATION, **labels, method=str(way))
        if way is not StartedBy.COLD_START:
            metrics.expect(STARTS, **wanted, method=str(way), fallback_reason="")
    _expect_cold_starts(metrics, checkpoint, StartPolicy.PREFER_RESTORE)
    for phase in _RESTORE_PHASES:
        metrics.expect(START_PHASE_DURATION, method=str(StartedBy.RESTORE), phase=phase)
    for purpose in {Role.DEMO} | ({Role.WARM} if pooled else set()):
        for result in ("Ready", "NotReady", "CRIUFailed"):
            metrics.expect(RESTORES, **labels, purpose=str(purpose), result=result)
    for result in ("Claimed", "Empty") if pooled else ():
        metrics.expect(CLAIMS, **labels, result=result)


def node_checkpoint_removed(metrics: Metrics, node_checkpoint: NodeCheckpoint) -> None:
    """Drop the series of a Checkpoint with its last revision, so that they do not grow for ever."""
    metrics.forget(**_labels(node_checkpoint.checkpoint_key))


def _labels(checkpoint: Key) -> dict[str, str]:
    return {"namespace": checkpoint.namespace, "checkpoint": checkpoint.name}
