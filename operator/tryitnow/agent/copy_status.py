"""What the agent says of a copy: one writer, of its NodeCheckpoint's status and Events."""

from __future__ import annotations

import logging
from datetime import timedelta

from tryitnow.agent.measure import count_copy
from tryitnow.agent.node import Node
from tryitnow.api.checkpoint import Archive
from tryitnow.api.meta import ConditionStatus
from tryitnow.api.nodecheckpoint import (
    NodeCheckpoint,
    NodeCheckpointPhase,
    NodeCheckpointStatus,
)
from tryitnow.kubernetes.call import write_with_retry
from tryitnow.metrics.node import QUARANTINES

logger = logging.getLogger(__name__)

Phase = NodeCheckpointPhase


async def _write(node: Node, copy: NodeCheckpoint, status: NodeCheckpointStatus) -> NodeCheckpoint:
    status = status.model_copy(update={"observed_generation": copy.metadata.generation})
    return node.copies.update(await node.kubernetes.patch_status(copy, status.to_api()))


async def report_progress(
    node: Node, copy: NodeCheckpoint, phase: Phase, progress: str
) -> NodeCheckpoint:
    """Say what is being done right now."""
    logger.info("%s: %s", copy.key, progress)
    status = copy.status.with_condition(copy, "Ready", ConditionStatus.FALSE, str(phase), progress)
    return await _write(
        node, copy, status.model_copy(update={"phase": phase, "progress": progress})
    )


async def report_prepared(
    node: Node, copy: NodeCheckpoint, archive: Archive, message: str, took: timedelta | None
) -> None:
    """Say that demos can be thawed from it."""
    logger.info("%s: %s", copy.key, message)
    status = copy.status.with_condition(copy, "Ready", ConditionStatus.TRUE, "Prepared", message)
    update = {
        "phase": Phase.PREPARED,
        "progress": "",
        "archive": archive,
        "verified": True,
        "restore_failures": 0,
        "build_duration": took or copy.status.build_duration,
    }
    prepared = status.model_copy(update=update)
    await write_with_retry(lambda: _write(node, copy, prepared))
    node.kubernetes.event(copy, "Prepared", message)


async def report_not_ready(node: Node, copy: NodeCheckpoint, reason: str, message: str) -> None:
    """Say why it is not ready yet; it is tried again."""
    logger.warning("%s: %s: %s", copy.key, reason, message)
    status = copy.status.with_condition(copy, "Ready", ConditionStatus.FALSE, reason, message)
    await _write(node, copy, status)
    node.kubernetes.event(copy, reason, message, warning=True)


async def report_failed(node: Node, copy: NodeCheckpoint, reason: str, message: str) -> None:
    """Say why it will not be built here."""
    logger.error("%s: %s: %s", copy.key, reason, message)
    status = copy.status.with_condition(copy, "Ready", ConditionStatus.FALSE, reason, message)
    await _write(node, copy, status.model_copy(update={"phase": Phase.FAILED, "progress": ""}))
    node.kubernetes.event(copy, reason, message, warning=True)


async def report_quarantined(
    node: Node, copy: NodeCheckpoint, reason: str, message: str, status: NodeCheckpointStatus
) -> None:
    """Take a copy out of service, and say why."""
    logger.error("%s: quarantined: %s: %s", copy.key, reason, message)
    count_copy(node, QUARANTINES, copy, reason)
    marked = status.with_condition(copy, "Ready", ConditionStatus.FALSE, reason, message)
    await _write(node, copy, marked.model_copy(update={"phase": Phase.QUARANTINED, "progress": ""}))
    node.kubernetes.event(copy, f"Quarantined{reason}", message, warning=True)
