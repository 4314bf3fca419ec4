"""``tryitnow explain-slow``: each step of a start beside others', and the likely causes."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar

import click

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint, node_checkpoint_name
from tryitnow.cli import prometheus
from tryitnow.cli.cluster import ask
from tryitnow.cli.distribution import Distribution, Samples
from tryitnow.cli.failures import FAILED, STATUSES, CommandFailedError
from tryitnow.cli.names import complete_demo, some_name
from tryitnow.cli.options import output, where
from tryitnow.cli.output import emit
from tryitnow.cli.slow import Cause, Facts, causes
from tryitnow.cli.steps import MEANING, Step, steps
from tryitnow.cli.table import seconds, table
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ForbiddenError, NotFoundError
from tryitnow.kubernetes.event_list import EventRecord

T = TypeVar("T")


@click.command("explain-slow", epilog=STATUSES)
@click.argument("name", metavar="DEMO", callback=some_name, shell_complete=complete_demo)
@click.option(
    "--prometheus",
    "prometheus_url",
    metavar="URL",
    help="Compare with the last day in this Prometheus, not with the demos that are there now.",
)
@where
@output
def explain_slow(
    *,
    name: str,
    prometheus_url: str | None,
    namespace: str | None,
    context: str | None,
    as_json: bool,
) -> None:
    """Find the slow step of DEMO's start, its cause and a fix.

    Each step is compared with other demos of the same Checkpoint that were started the same way.
    """

    async def gather(kubernetes: KubernetesApi, default: str) -> Facts:
        return await _facts(kubernetes, Key(namespace or default, name), prometheus_url)

    facts = ask(context, gather)
    emit(json.dumps(_as_json(facts), indent=2, ensure_ascii=False) if as_json else _as_text(facts))


async def _facts(kubernetes: KubernetesApi, key: Key, prometheus_url: str | None) -> Facts:
    demo = await kubernetes.get(DemoInstance, key)
    status = demo.status
    if status.timings is None or status.timings.total is None:
        msg = (
            f"{key} has not become ready; see `tryitnow status demo/{key.name} -n {key.namespace}`"
        )
        raise CommandFailedError(msg, FAILED)
    owner = demo.checkpoint_key
    node_checkpoint: NodeCheckpoint | None = None
    events: list[EventRecord] = []
    if status.revision and status.node_name:
        name = node_checkpoint_name(owner.name, status.revision, status.node_name)
        node_checkpoint = await _allowed(kubernetes.get(NodeCheckpoint, Key(key.namespace, name)))
    if node_checkpoint is not None:
        events = await _allowed(kubernetes.events_about(node_checkpoint)) or []
    return Facts(
        demo=demo,
        elsewhere=(
            await prometheus.distributions(prometheus_url, demo)
            if prometheus_url
            else _peers(
                (await kubernetes.list_all(DemoInstance, namespace=key.namespace)).items, demo
            )
        ),
        checkpoint=await _allowed(kubernetes.get(Checkpoint, owner)),
        node_checkpoint=node_checkpoint,
        node_checkpoint_events=events,
        agent=await _allowed(kubernetes.get(NodeAgent, Key("", status.node_name or ""))),
    )


async def _allowed(reading: Awaitable[T]) -> T | None:
    """Read what may be read and is there: without it less is explained, but not wrongly."""
    try:
        return await reading
    except (ForbiddenError, NotFoundError):
        return None


def _peers(demos: list[DemoInstance], demo: DemoInstance) -> dict[str, Distribution]:
    def values(step: str, peers: list[DemoInstance]) -> list[float]:
        found = (getattr(p.status.timings, step) for p in peers if p.status.timings)
        return [took.total_seconds() for took in found if took is not None]

    others = [
        d for d in demos if d.key != demo.key and d.spec.checkpoint_ref == demo.spec.checkpoint_ref
    ]
    alike = [d for d in others if d.status.started_by is demo.status.started_by]
    times = {step: values(step, alike) for step in MEANING} | {"total": values("total", others)}
    return {step: Samples(found) for step, found in times.items() if found}


def _rows(facts: Facts) -> list[Step]:
    total = facts.timings.total or timedelta()
    return [*steps(facts.timings), Step("total", total)]


def _as_text(facts: Facts) -> str:
    status = facts.demo.status
    head = (
        f"{facts.demo.key}, a demo of {facts.demo.spec.checkpoint_ref.name}: started by "
        f"{status.started_by} on {status.node_name} in {seconds(facts.timings.total)}"
    )
    rows = [_row(step, facts.elsewhere.get(step.name)) for step in _rows(facts)]
    compared = table(["STEP", "TOOK", "P50", "P95", "SLOWER THAN", "OF"], rows)
    found = causes(facts)
    reported = "\n\n".join(_described(cause) for cause in found) or "Nothing stands out."
    return "\n\n".join([head, compared, reported])


def _row(step: Step, others: Distribution | None) -> list[str | None]:
    name = f"  {step.name}" if step.is_part else step.name
    if others is None:
        return [name, seconds(step.took), None, None, None, "0"]
    share = others.share_below(step.took.total_seconds())
    return [
        name,
        seconds(step.took),
        f"{others.quantile(0.5):.2f} s",
        f"{others.quantile(0.95):.2f} s",
        f"{share:.0%}",
        str(others.count),
    ]


def _described(cause: Cause) -> str:
    return f"{cause.name}: {cause.evidence}\n  → {cause.fix}"


def _as_json(facts: Facts) -> dict[str, Any]:
    return {
        "demo": {"namespace": facts.demo.metadata.namespace, "name": facts.demo.metadata.name},
        "startedBy": facts.demo.status.started_by,
        "fallbackReason": facts.demo.status.fallback_reason,
        "steps": [_step_json(step, facts.elsewhere.get(step.name)) for step in _rows(facts)],
        "causes": [
            {"name": cause.name, "evidence": cause.evidence, "fix": cause.fix}
            for cause in causes(facts)
        ],
    }


def _step_json(step: Step, others: Distribution | None) -> dict[str, Any]:
    took = step.took.total_seconds()
    return {
        "name": step.name,
        "seconds": took,
        "p50Seconds": others.quantile(0.5) if others else None,
        "p95Seconds": others.quantile(0.95) if others else None,
        "slowerThan": others.share_below(took) if others else None,
        "compared": others.count if others else 0,
    }
