"""``tryitnow status`` without a name: checkpoints, nodes, and what is slow or waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import Resource, find_condition
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.cli.steps import longest
from tryitnow.cli.table import age, first_line, seconds, size, table
from tryitnow.doctor.report import summary
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ForbiddenError

R = TypeVar("R", bound=Resource)

MOST_SHOWN = 10
"""Slow starts on one screen, the newest first."""


@dataclass(frozen=True)
class Overview:
    """The objects of the cluster, as far as the caller may see them."""

    at: datetime
    checkpoints: list[Checkpoint]
    agents: list[NodeAgent]
    demos: list[DemoInstance]
    load: dict[str, int] | None
    """Demos by node; None where not all demos may be seen."""

    hidden: list[str] = field(default_factory=list)
    """Kinds that the caller may not see, with the reasons."""

    def slow(self, bound: timedelta) -> list[DemoInstance]:
        """Return the demos whose start took longer, the newest first."""
        return [d for d in self._newest() if (_total(d) or timedelta()) > bound][:MOST_SHOWN]

    def waiting(self) -> list[DemoInstance]:
        """Return the demos that are not ready, the newest first."""
        ready = (DemoInstancePhase.READY, DemoInstancePhase.TERMINATING)
        return [d for d in self._newest() if d.status.phase not in ready and not d.is_deleting]

    def _newest(self) -> list[DemoInstance]:
        def created(demo: DemoInstance) -> datetime:
            return demo.metadata.creation_timestamp or self.at

        return sorted(self.demos, key=created, reverse=True)


async def collect(kubernetes: KubernetesApi, namespace: str, at: datetime) -> Overview:
    """Look at a namespace ("" for all) and at all nodes.

    Raises:
        KubernetesError: the API server does not answer.

    """
    hidden: list[str] = []

    async def all_of(model: type[R], within: str) -> list[R] | None:
        try:
            return (await kubernetes.list_all(model, namespace=within)).items
        except ForbiddenError as error:
            hidden.append(f"{model.plural}: {error}")
            return None

    checkpoints = await all_of(Checkpoint, namespace)
    demos = await all_of(DemoInstance, namespace)
    agents = await all_of(NodeAgent, "")
    everyone = demos if not namespace else None
    if agents and everyone is None:
        try:
            everyone = (await kubernetes.list_all(DemoInstance)).items
        except ForbiddenError:
            everyone = None  # shown as a question mark
    load = None if everyone is None else Counter(d.status.node_name or "" for d in everyone)
    return Overview(
        at=at,
        checkpoints=checkpoints or [],
        agents=agents or [],
        demos=demos or [],
        load=load,
        hidden=hidden,
    )


def as_text(seen: Overview, bound: timedelta) -> str:
    """Return one screen."""
    return "\n\n".join(_sections(seen, bound))


def _sections(seen: Overview, bound: timedelta) -> Iterator[str]:
    if seen.checkpoints:
        yield table(
            ["NAMESPACE", "CHECKPOINT", "PHASE", "REVISION", "NODES", "POOL", "DEMOS", "SAYS"],
            [_checkpoint_row(c, seen) for c in seen.checkpoints],
        )
    else:
        yield "No checkpoints. Write one: docs/checkpoint.md, `kubectl explain checkpoint.spec`."
    if seen.agents:
        yield table(
            ["NODE", "DOCTOR", "CRIU", "DEMOS", "MEMORY", "DISK", "SAYS"],
            [_node_row(a, seen) for a in seen.agents],
        )
    waiting = seen.waiting()
    if waiting:
        yield table(
            ["NAMESPACE", "NOT READY", "CHECKPOINT", "NODE", "AGE", "SAYS"],
            [_waiting_row(d, seen.at) for d in waiting],
        )
    slow = seen.slow(bound)
    if slow:
        yield table(
            ["NAMESPACE", "SLOW START", "CHECKPOINT", "NODE", "BY", "TOTAL", "MOSTLY", "AGE"],
            [_slow_row(d, seen.at) for d in slow],
        )
    elif seen.demos:
        yield f"No start of these {len(seen.demos)} demos took longer than {seconds(bound)}."
    if seen.hidden:
        yield "Not shown:\n" + "\n".join(f"  {first_line(line, 200)}" for line in seen.hidden)


def _checkpoint_row(checkpoint: Checkpoint, seen: Overview) -> list[str | None]:
    status = checkpoint.status
    demos = sum(1 for demo in seen.demos if demo.checkpoint_key == checkpoint.key)
    return [
        checkpoint.metadata.namespace,
        checkpoint.metadata.name,
        str(status.phase),
        status.current_revision or status.candidate_revision,
        f"{status.nodes_ready}/{status.nodes_desired}",
        status.warm,
        str(demos),
        first_line(_complaint(checkpoint)),
    ]


def _complaint(resource: Checkpoint | DemoInstance | NodeAgent) -> str:
    for type_ in ("Stalled", "Ready", "CRIUAvailable"):
        found = find_condition(resource.status.conditions, type_)
        if found and found.message and (found.status == "True") is (type_ == "Stalled"):
            return f"{found.reason}: {found.message}"
    return ""


def _node_row(agent: NodeAgent, seen: Overview) -> list[str | None]:
    status = agent.status
    name = agent.metadata.name
    demos = "?" if seen.load is None else str(seen.load.get(name, 0))
    lost = agent.is_lost(seen.at)
    silent = f"silent for {age(seen.at, status.heartbeat) or 'ever'}"
    return [
        name,
        str(summary(status.checks)),
        "yes" if agent.can_restore(seen.at) else "no",
        f"{demos}/{status.capacity}",
        size(status.memory_available_bytes),
        size(status.disk_available_bytes),
        silent if lost else first_line(_complaint(agent)),
    ]


def _waiting_row(demo: DemoInstance, at: datetime) -> list[str | None]:
    return [
        demo.metadata.namespace,
        demo.metadata.name,
        demo.spec.checkpoint_ref.name,
        demo.status.node_name,
        age(at, demo.metadata.creation_timestamp),
        first_line(_complaint(demo)),
    ]


def _slow_row(demo: DemoInstance, at: datetime) -> list[str | None]:
    step = longest(demo.status.timings)
    return [
        demo.metadata.namespace,
        demo.metadata.name,
        demo.spec.checkpoint_ref.name,
        demo.status.node_name,
        str(demo.status.fallback_reason or demo.status.started_by),
        seconds(_total(demo)),
        f"{step.name} {seconds(step.took)}" if step else None,
        age(at, demo.metadata.creation_timestamp),
    ]


def _total(demo: DemoInstance) -> timedelta | None:
    return demo.status.timings.total if demo.status.timings else None


def as_json(seen: Overview, bound: timedelta) -> dict[str, Any]:
    """Return the same for programs; keys are always all there."""
    return {
        "checkpoints": [_summed(c) for c in seen.checkpoints],
        "nodes": [
            {
                **_summed(agent),
                "doctor": str(summary(agent.status.checks)),
                "canRestore": agent.can_restore(seen.at),
                "isLost": agent.is_lost(seen.at),
                "demos": None if seen.load is None else seen.load.get(agent.metadata.name, 0),
            }
            for agent in seen.agents
        ],
        "notReady": [_demo(d) for d in seen.waiting()],
        "slowStarts": [_demo(d) for d in seen.slow(bound)],
        "notShown": seen.hidden,
    }


def _summed(resource: Checkpoint | DemoInstance | NodeAgent) -> dict[str, Any]:
    name = {"namespace": resource.metadata.namespace, "name": resource.metadata.name}
    return {**name, "status": resource.status.to_api()}


def _demo(demo: DemoInstance) -> dict[str, Any]:
    return {**_summed(demo), "checkpoint": demo.spec.checkpoint_ref.name}
