"""Which node runs an instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, StartPolicy
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint


@dataclass(frozen=True)
class Binding:
    """The instance runs there."""

    node_name: str
    revision: str | None
    """Revision to thaw; None where none is ready."""


@dataclass(frozen=True)
class Refusal:
    """The instance cannot run anywhere right now."""

    reason: str
    message: str


def bind(
    instance: DemoInstance,
    checkpoint: Checkpoint,
    copies: list[NodeCheckpoint],
    candidates: list[NodeAgent],
    load: Mapping[str, int],
    claiming: Mapping[str, int],
    at: datetime,
) -> Binding | Refusal:
    """Choose a node: one with a warm copy, a good copy and room, the least loaded first.

    Without such a node the instance starts cold on any node with room, unless it must be thawed.

    Args:
        instance: Who needs a node.
        checkpoint: What it is a copy of.
        copies: All copies of that Checkpoint.
        candidates: Agents of the nodes that the Checkpoint selects.
        load: Instances by node name.
        claiming: Instances of this Checkpoint that are on their way to a warm copy, by node name.
        at: The present.

    """
    alive = [agent for agent in candidates if agent.can_run(at)]
    if not alive:
        return _no_node(candidates, at)
    roomy = [agent for agent in alive if _has_room(agent, load)]
    if not roomy:
        full = ", ".join(f"{a.metadata.name} {_fullness(a, load)}" for a in alive)
        return Refusal("NoRoom", f"no selected node has room ({full}); waiting for one to end")
    revision = checkpoint.status.current_revision
    good = [copy for copy in copies if copy.is_prepared and copy.spec.revision == revision]
    holding = {copy.spec.node_name for copy in good}
    warm = {
        copy.spec.node_name
        for copy in good
        if copy.status.warm_ready > claiming.get(copy.spec.node_name, 0)
    }
    builders = {copy.spec.node_name for copy in copies if copy.spec.fetch is None}

    def rank(agent: NodeAgent) -> tuple[bool, int, bool, str]:
        name = agent.metadata.name
        # At equal load the builder comes last: the next build will be its work again.
        return name not in warm, load.get(name, 0), name in builders, name

    thawing = [a for a in roomy if a.metadata.name in holding and a.can_thaw(at)]
    if thawing and instance.spec.start is not StartPolicy.COLD_START:
        return Binding(min(thawing, key=rank).metadata.name, revision)
    if instance.spec.start is StartPolicy.RESTORE_ONLY:
        return Refusal(
            "NoCopy",
            f"no node with room holds a verified copy of {checkpoint.metadata.name} and can thaw; "
            "spec.start is RestoreOnly, so it waits for one",
        )
    return Binding(min(roomy, key=rank).metadata.name, revision)


def _has_room(agent: NodeAgent, load: Mapping[str, int]) -> bool:
    free = agent.status.capacity - load.get(agent.metadata.name, 0)
    return free > 0 and agent.status.memory_available_bytes > 0


def _fullness(agent: NodeAgent, load: Mapping[str, int]) -> str:
    if agent.status.memory_available_bytes <= 0:
        return "is short of memory"
    return f"runs {load.get(agent.metadata.name, 0)} of {agent.status.capacity}"


def _no_node(candidates: list[NodeAgent], at: datetime) -> Refusal:
    if not candidates:
        message = (
            "no node runs an agent and matches the Checkpoint's spec.distribution.nodeSelector; "
            "see `kubectl get nodeagents`"
        )
    else:
        names = ", ".join(
            f"{a.metadata.name} {'is silent' if a.is_lost(at) else 'is not ready'}"
            for a in candidates
        )
        message = f"no selected node can run it ({names}); see `kubectl get nodeagents -o wide`"
    return Refusal("NoNode", message)
