"""Which node runs an instance."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, StartPolicy
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint


@dataclass(frozen=True)
class Binding:
    """The instance runs there."""

    node_name: str
    revision: str
    """Identity of the revision that it is started from."""


@dataclass(frozen=True)
class Refusal:
    """The instance cannot run anywhere right now."""

    reason: str
    message: str


@dataclass(frozen=True)
class Taken:
    """What of the nodes is given away, or is not to be given; by node name."""

    instances: Mapping[str, int] = field(default_factory=dict)
    """Instances that are bound there."""

    claiming: Mapping[str, int] = field(default_factory=dict)
    """Those of the Checkpoint in question that are on their way to a warm copy."""

    promised_bytes: Mapping[str, int] = field(default_factory=dict)
    """Memory that instances will fill of which the agent's last report does not know."""

    cordoned: Set[str] = frozenset()
    """Nodes that somebody has cordoned, as `kubectl drain` does first."""


def bind(
    instance: DemoInstance,
    checkpoint: Checkpoint,
    wanted: str,
    copies: list[NodeCheckpoint],
    candidates: list[NodeAgent],
    taken: Taken,
    at: datetime,
) -> Binding | Refusal:
    """Choose a node: one with a warm copy, a good copy and room, the least loaded first.

    Without such a node the instance starts cold on any node with room, unless it must be thawed.

    Args:
        instance: Who needs a node.
        checkpoint: Its Checkpoint.
        wanted: Identity of the revision that the Checkpoint's spec wants, where none serves yet.
        copies: All copies of that Checkpoint.
        candidates: Agents of the nodes that the Checkpoint selects.
        taken: What of the nodes is given away already.
        at: The present.

    """
    alive = [a for a in candidates if a.can_take(at) and a.metadata.name not in taken.cordoned]
    if not alive:
        return _no_node(candidates, taken.cordoned, at)
    revision = checkpoint.status.current_revision or wanted
    good = [copy for copy in copies if copy.is_ready and copy.spec.revision == revision]
    holding = {copy.spec.node_name for copy in good}
    warm = {
        copy.spec.node_name
        for copy in good
        if copy.claimable > taken.claiming.get(copy.spec.node_name, 0)
    }
    needed_bytes = max((copy.status.memory_bytes for copy in good), default=0)
    claims = instance.spec.start is not StartPolicy.COLD_START
    full = {
        agent.metadata.name: why
        for agent in alive
        if (why := _full(agent, taken, needed_bytes, warm=claims and agent.metadata.name in warm))
    }
    roomy = [agent for agent in alive if agent.metadata.name not in full]
    if not roomy:
        said = ", ".join(f"{node} {why}" for node, why in full.items())
        return Refusal("NoRoom", f"no selected node has room ({said}); waiting for one to end")
    builders = {copy.spec.node_name for copy in copies if copy.spec.fetch is None}

    def rank(agent: NodeAgent) -> tuple[bool, int, bool, str]:
        name = agent.metadata.name
        # At equal load the builder comes last: the next build will be its work again.
        return name not in warm, taken.instances.get(name, 0), name in builders, name

    thawing = [a for a in roomy if a.metadata.name in holding and a.can_restore(at)]
    if thawing and instance.spec.start is not StartPolicy.COLD_START:
        return Binding(min(thawing, key=rank).metadata.name, revision)
    if instance.spec.start is StartPolicy.RESTORE_ONLY:
        return Refusal(
            "NoCopy",
            f"no node with room holds a verified copy of {checkpoint.metadata.name} and can thaw; "
            "spec.start is RestoreOnly, so it waits for one",
        )
    return Binding(min(roomy, key=rank).metadata.name, revision)


def _full(agent: NodeAgent, taken: Taken, needed_bytes: int, *, warm: bool) -> str:
    """Say why an agent's node has no room for a copy of that size; empty where it has.

    A warm one fills no more memory than it does already.
    """
    status, node = agent.status, agent.metadata.name
    # Nothing that changes from moment to moment: each waiting demo's status says it.
    if taken.instances.get(node, 0) >= status.capacity:
        return f"runs {status.capacity}, its most"
    free = status.memory_available_bytes
    if not warm:
        free -= taken.promised_bytes.get(node, 0)
    if free <= 0 or (free < needed_bytes and not warm):
        needed = f": it needs {needed_bytes / 2**20:.0f} MiB" if needed_bytes else ""
        return f"is short of memory{needed}"
    return ""


def _no_node(candidates: list[NodeAgent], cordoned: Set[str], at: datetime) -> Refusal:
    if not candidates:
        message = (
            "no node runs an agent and matches the Checkpoint's spec.distribution.nodeSelector; "
            "see `kubectl get nodeagents`"
        )
    else:
        names = ", ".join(f"{a.metadata.name} {_why_not(a, cordoned, at)}" for a in candidates)
        message = f"no selected node can run it ({names}); see `kubectl get nodeagents -o wide`"
    return Refusal("NoNode", message)


def _why_not(agent: NodeAgent, cordoned: Set[str], at: datetime) -> str:
    if agent.is_lost(at):
        return "is silent"
    if not agent.can_run(at):
        return "is not ready"
    return "is cordoned" if agent.metadata.name in cordoned else "has its agent stopped"
