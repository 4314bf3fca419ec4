"""What the agent says of a demo: one writer, of its status and Events."""

from __future__ import annotations

import logging
from datetime import timedelta

from tryitnow.agent.demos.start import Started
from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.sandbox.pressure import Stalls, pressure_between, read_stalls
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import (
    DemoInstance,
    DemoInstancePhase,
    DemoInstanceStatus,
    PublishedPort,
    StartedBy,
    StartPolicy,
    Timings,
)
from tryitnow.api.meta import Condition, ConditionStatus, find_condition, now
from tryitnow.kubernetes.call import write_with_retry
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError

logger = logging.getLogger(__name__)

Phase = DemoInstancePhase

DATA_LOST = "DataLost"
"""Condition: files of the demo are gone, for a reason beyond us."""

EGRESS_OPEN = "EgressOpen"
"""Condition: all of ``spec.network.egress`` is open. Only where something is asked for."""

_HOW = {
    StartedBy.WARM: "taken from the warm pool",
    StartedBy.RESTORE: "restored",
    StartedBy.COLD_START: "started cold",
    StartedBy.RESTART: "started again with its files",
}


async def report_ready(
    tools: DemoTools,
    demo: DemoInstance,
    definition: Definition,
    started: Started,
    took: timedelta,
    stalls: Stalls,
) -> Timings:
    """Say where the demo answers and how it was started; return the timings with their sum.

    Args:
        tools: The node's tools.
        demo: The demo.
        definition: What it is started from.
        started: How it came to be.
        took: How long that took.
        stalls: How long processes of the node had waited when it began.

    """
    running = started.running
    port = running.sandbox.host_port(definition.probe_port)
    scheme = definition.readiness.http_get.scheme.lower()
    url = f"{scheme}://{tools.settings.host_at(port)}"
    is_restart = running.started_by is StartedBy.RESTART
    bind = demo.status.timings.bind if demo.status.timings and not is_restart else None
    total = took + (bind or timedelta())
    timings = running.timings.model_copy(update={"bind": bind, "total": total})
    message = f"{_HOW[running.started_by]} on {tools.settings.node_name} in {_seconds(total)} s"
    why = _why_cold(demo, started)
    status = demo.status.with_condition(
        demo, "Ready", ConditionStatus.TRUE, str(running.started_by), message + why
    )
    status = _with_egress(tools, demo, definition, status)
    fallback = started.fallback
    update = {
        "phase": Phase.READY,
        "host_port": port,
        "ports": tuple(
            PublishedPort(container_port=p.container_port, host_port=p.host_port)
            for p in running.sandbox.ports
        ),
        "url": url,
        "started_by": running.started_by,
        "fallback_reason": fallback.reason if fallback else None,
        "fallback_message": str(fallback)[:2048] if fallback else None,
        "timings": timings,
        "restarts": status.restarts + is_restart,
        "ready_at": status.ready_at or now(),
        "node_boot_id": tools.boot_id,
        "pressure": pressure_between(stalls, read_stalls(), took.total_seconds()),
    }
    ready = status.model_copy(update=update)
    await write_with_retry(lambda: _write(tools, demo, ready))
    logger.info("%s: %s%s, %s", demo.key, message, why, url)
    if fallback is not None:
        note = f"{fallback.reason}: {fallback}"
        tools.kubernetes.event(demo, "ColdStartFallback", note, warning=True)
    tools.kubernetes.event(demo, "Ready", f"{message}: {url}")
    return timings


def _seconds(took: timedelta) -> str:
    return f"{took.total_seconds():.2f}"


def _why_cold(demo: DemoInstance, started: Started) -> str:
    fallback = started.fallback
    if fallback is not None:
        return f", because it could not be restored: {fallback.reason}: {fallback}"
    is_cold = started.running.started_by is StartedBy.COLD_START
    if is_cold and demo.spec.start is StartPolicy.COLD_START:
        return ", because spec.start is ColdStart"
    return ""


def _with_egress(
    tools: DemoTools, demo: DemoInstance, definition: Definition, status: DemoInstanceStatus
) -> DemoInstanceStatus:
    network = definition.network
    if not network.egress:
        return status
    problems = tools.start.sandboxes.outbound.problems_of(network)
    if problems:
        message = "\n".join(problem.message for problem in problems)
        reason, holds = str(problems[0].reason), ConditionStatus.FALSE
    else:
        message = "the demo may connect to all that spec.network.egress names"
        reason, holds = "AllOpen", ConditionStatus.TRUE
    return status.with_condition(demo, EGRESS_OPEN, holds, reason, message)


def shows_egress(tools: DemoTools, demo: DemoInstance, definition: Definition) -> bool:
    """Whether the status says what a demo may reach as it is now."""
    wanted = _with_egress(tools, demo, definition, demo.status)
    before = find_condition(demo.status.conditions, EGRESS_OPEN)
    after = find_condition(wanted.conditions, EGRESS_OPEN)
    return _facts(before) == _facts(after)


def _facts(condition: Condition | None) -> tuple[str, str, str] | None:
    if condition is None:
        return None
    return condition.status, condition.reason, condition.message


async def report_egress(
    tools: DemoTools, demo: DemoInstance, definition: Definition
) -> DemoInstance:
    """Say what of ``spec.network.egress`` stays closed, where something else was said before."""
    if shows_egress(tools, demo, definition):
        return demo
    status = _with_egress(tools, demo, definition, demo.status)
    found = find_condition(status.conditions, EGRESS_OPEN)
    if found is not None and found.status is ConditionStatus.FALSE:
        tools.kubernetes.event(demo, found.reason, found.message, warning=True)
    return await _write(tools, demo, status)


async def report_answering(tools: DemoTools, demo: DemoInstance) -> None:
    """Say that a demo answers, where something else was said before."""
    ready = find_condition(demo.status.conditions, "Ready")
    if ready is not None and ready.status is ConditionStatus.TRUE:
        return
    message = f"it answers at its URL on {tools.settings.node_name}"
    status = demo.status.with_condition(
        demo, "Ready", ConditionStatus.TRUE, str(demo.status.started_by), message
    )
    await _write(tools, demo, status.model_copy(update={"phase": Phase.READY}))
    logger.info("%s: %s", demo.key, message)
    tools.kubernetes.event(demo, "Ready", message)


async def report_down(
    tools: DemoTools, demo: DemoInstance, reason: str, message: str, phase: Phase
) -> DemoInstance:
    """Say why a demo does not answer now. Its data is kept, or it has none yet.

    An API server that is away is no reason to leave a demo down: then nothing is said.
    """
    status = demo.status.with_condition(demo, "Ready", ConditionStatus.FALSE, reason, message)
    before = find_condition(demo.status.conditions, "Ready")
    if before is None or before.reason != reason:
        logger.warning("%s: %s: %s", demo.key, reason, message)
        tools.kubernetes.event(demo, reason, message, warning=True)
    try:
        return await _write(tools, demo, status.model_copy(update={"phase": phase}))
    except NotFoundError:
        raise
    except KubernetesError as error:
        logger.warning("%s: cannot say that it is down: %s", demo.key, error)
        return demo


async def report_unknown(tools: DemoTools, demo: DemoInstance, reason: str, message: str) -> None:
    """Say that nobody knows whether a demo answers."""
    status = demo.status.with_condition(demo, "Ready", ConditionStatus.UNKNOWN, reason, message)
    before = find_condition(demo.status.conditions, "Ready")
    if before is None or before.reason != reason:
        logger.warning("%s: %s: %s", demo.key, reason, message)
        tools.kubernetes.event(demo, reason, message, warning=True)
    await _write(tools, demo, status)


async def report_given_up(tools: DemoTools, demo: DemoInstance, reason: str, message: str) -> None:
    """Say why a demo that never was ready will not become ready."""
    status = demo.status.with_condition(demo, "Ready", ConditionStatus.FALSE, reason, message)
    way_out = (
        "Fix the cause, then delete this DemoInstance and create another, or run "
        f"`kubectl tryitnow reset {demo.metadata.name} -n {demo.metadata.namespace}`."
    )
    status = status.with_condition(
        demo, "Stalled", ConditionStatus.TRUE, reason, f"{message}\n{way_out}"
    )
    await _write(tools, demo, status.model_copy(update={"phase": Phase.FAILED}))
    logger.error("%s: %s: %s", demo.key, reason, message)
    tools.kubernetes.event(demo, reason, message, warning=True)


async def report_fresh(
    tools: DemoTools, demo: DemoInstance, reason: str, message: str, *, lost: bool
) -> DemoInstance:
    """Say that a demo starts afresh: nothing of its data is left, or is to be left.

    Written before anything is removed: an agent that ends meanwhile finds a demo without data.
    """
    status = demo.status.with_condition(demo, "Ready", ConditionStatus.FALSE, reason, message)
    if lost or find_condition(status.conditions, DATA_LOST) is not None:
        holds = ConditionStatus.TRUE if lost else ConditionStatus.FALSE
        status = status.with_condition(demo, DATA_LOST, holds, reason, message)
    if find_condition(status.conditions, "Stalled") is not None:
        status = status.with_condition(demo, "Stalled", ConditionStatus.FALSE, reason, message)
    request = demo.reset_request
    update = {
        "phase": Phase.STARTING,
        "ready_at": None,
        "resets": status.resets + 1,
        "reset_handled": request if request is not None else status.reset_handled,
    }
    logger.warning("%s: %s: %s", demo.key, reason, message)
    tools.kubernetes.event(demo, reason, message, warning=lost)
    return await _write(tools, demo, status.model_copy(update=update))


async def report_removing(tools: DemoTools, demo: DemoInstance) -> DemoInstance:
    """Say that a demo is being removed: its beforeDelete hooks have run, or never will."""
    message = "its beforeDelete hooks are over; its containers and its data are being removed"
    status = demo.status.with_condition(
        demo, "Ready", ConditionStatus.FALSE, "Terminating", message
    )
    return await _write(tools, demo, status.model_copy(update={"phase": Phase.TERMINATING}))


async def _write(tools: DemoTools, demo: DemoInstance, status: DemoInstanceStatus) -> DemoInstance:
    return tools.demos.update(await tools.kubernetes.patch_status(demo, status.to_api()))
