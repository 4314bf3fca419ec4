"""What the agent says of an instance: one writer, of its status and Events."""

from __future__ import annotations

import logging
from datetime import timedelta

from tryitnow.agent.node import Node
from tryitnow.agent.start import Outcome
from tryitnow.api.demoinstance import (
    DemoInstance,
    DemoInstancePhase,
    DemoInstanceStatus,
    PublishedPort,
    StartedBy,
    StartPolicy,
    Timings,
)
from tryitnow.api.meta import ConditionStatus, find_condition, now
from tryitnow.kubernetes.call import write_with_retry

logger = logging.getLogger(__name__)

Phase = DemoInstancePhase

_HOW = {
    StartedBy.WARM: "taken from the warm pool",
    StartedBy.RESTORE: "thawed",
    StartedBy.COLD_START: "started cold",
}


async def report_ready(
    node: Node, instance: DemoInstance, outcome: Outcome, took: timedelta
) -> Timings:
    """Say where it answers and how it was started; returns the timings with their sum."""
    ports = outcome.sandbox.ports
    host_port = outcome.sandbox.host_port(outcome.probe_port)
    url = f"http://{node.settings.host_at(host_port)}"
    bind = instance.status.timings.bind if instance.status.timings else None
    total = took + (bind or timedelta())
    timings = outcome.timings.model_copy(update={"bind": bind, "total": total})
    how = _HOW[outcome.started_by]
    message = f"{how} on {node.name} in {total.total_seconds():.2f} s"
    why = _why_cold(instance, outcome)
    status = instance.status.with_condition(
        instance, "Ready", ConditionStatus.TRUE, str(outcome.started_by), message + why
    )
    update = {
        "phase": Phase.READY,
        "host_port": host_port,
        "ports": tuple(
            PublishedPort(container_port=p.container_port, host_port=p.host_port) for p in ports
        ),
        "url": url,
        "started_by": outcome.started_by,
        "restored_from": outcome.restored_from,
        "fallback_reason": outcome.fallback.reason if outcome.fallback else None,
        "fallback_message": str(outcome.fallback)[:2048] if outcome.fallback else None,
        "timings": timings,
        "ready_at": now(),
    }
    ready = status.model_copy(update=update)
    await write_with_retry(lambda: _write(node, instance, ready))
    logger.info("%s: %s%s, %s", instance.key, message, why, url)
    if outcome.fallback is not None:
        note = f"{outcome.fallback.reason}: {outcome.fallback}"
        node.kubernetes.event(instance, "ColdStartFallback", note, warning=True)
    node.kubernetes.event(instance, "Ready", f"{message}: {url}")
    return timings


def _why_cold(instance: DemoInstance, outcome: Outcome) -> str:
    if outcome.fallback is not None:
        return f", because it could not be thawed: {outcome.fallback.reason}: {outcome.fallback}"
    if outcome.started_by is StartedBy.COLD_START and instance.spec.start is StartPolicy.COLD_START:
        return ", because spec.start is ColdStart"
    return ""


async def report_found(node: Node, instance: DemoInstance) -> None:
    """Take back what the controller said while this agent was silent: the demo ran on."""
    ready = find_condition(instance.status.conditions, "Ready")
    if ready is not None and ready.status is ConditionStatus.TRUE:
        return
    message = f"runs on {node.name}, whose agent is back"
    status = instance.status.with_condition(
        instance, "Ready", ConditionStatus.TRUE, str(instance.status.started_by), message
    )
    await _write(node, instance, status)
    logger.info("%s: %s", instance.key, message)
    node.kubernetes.event(instance, "Ready", message)


async def report_given_up(node: Node, instance: DemoInstance, reason: str, message: str) -> None:
    """Say why it will not become ready."""
    status = instance.status.with_condition(
        instance, "Ready", ConditionStatus.FALSE, reason, message
    )
    way_out = "Delete this DemoInstance and create another once the cause is mended."
    status = status.with_condition(
        instance, "Stalled", ConditionStatus.TRUE, reason, f"{message}\n{way_out}"
    )
    await _write(node, instance, status.model_copy(update={"phase": Phase.FAILED}))
    logger.error("%s: %s: %s", instance.key, reason, message)
    node.kubernetes.event(instance, reason, message, warning=True)


async def report_not_ready(
    node: Node,
    instance: DemoInstance,
    reason: str,
    message: str,
    *,
    phase: Phase = Phase.STARTING,
    restarted: bool = False,
) -> DemoInstance:
    """Say why it does not answer (yet)."""
    status = instance.status.with_condition(
        instance, "Ready", ConditionStatus.FALSE, reason, message
    )
    update = {"phase": phase, "restarts": status.restarts + restarted}
    said = find_condition(instance.status.conditions, "Ready")
    if said is None or said.reason != reason:
        logger.warning("%s: %s: %s", instance.key, reason, message)
        node.kubernetes.event(instance, reason, message, warning=True)
    return await _write(node, instance, status.model_copy(update=update))


async def _write(node: Node, instance: DemoInstance, status: DemoInstanceStatus) -> DemoInstance:
    return node.instances.update(await node.kubernetes.patch_status(instance, status.to_api()))
