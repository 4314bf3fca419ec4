"""Which node runs an instance."""

from __future__ import annotations

from dataclasses import dataclass

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, StartPolicy
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.nodes import NodeState
from tryitnow.controller.usage import Usage


@dataclass(frozen=True)
class Binding:
    """The instance runs there."""

    node_name: str
    revision: str | None
    """Revision to thaw; None where none is ready."""


@dataclass(frozen=True)
class Unbound:
    """The instance cannot run anywhere right now."""

    reason: str
    message: str


@dataclass(frozen=True)
class _Needs:
    """Memory and disk of a node that a copy fills."""

    memory_bytes: int
    disk_bytes: int


def bind(
    instance: DemoInstance,
    checkpoint: Checkpoint,
    copies: list[NodeCheckpoint],
    candidates: list[NodeState],
    usage: Usage,
) -> Binding | Unbound:
    """Choose a node: one with a warm copy, a good copy and room, the least loaded first.

    Without such a node the instance starts cold on any node with room, unless it must be thawed.

    Args:
        instance: Who needs a node.
        checkpoint: What it is a copy of.
        copies: All copies of that Checkpoint.
        candidates: The nodes that the Checkpoint selects.
        usage: How much of the nodes is given away already.

    """
    open_ = [state for state in candidates if not state.closed_reason()]
    if not open_:
        return _no_node(candidates)
    revision = checkpoint.status.current_revision
    good = [copy for copy in copies if copy.is_prepared and copy.spec.revision == revision]
    holding = {copy.spec.node_name for copy in good}
    warm = {
        copy.spec.node_name
        for copy in good
        if copy.claimable > usage.claiming.get(copy.spec.node_name, 0)
    }
    needs = _Needs(
        max((copy.status.memory_bytes for copy in good), default=0),
        max((copy.status.disk_bytes for copy in good), default=0),
    )
    claims = instance.spec.start is not StartPolicy.COLD_START
    unfit = {
        state.name: why
        for state in open_
        if (why := unfit_reason(state, usage, needs, warm=claims and state.name in warm))
    }
    feasible = [state for state in open_ if state.name not in unfit]
    if not feasible:
        said = ", ".join(f"{node} {why}" for node, why in unfit.items())
        return Unbound("NoRoom", f"no selected node has room ({said}); waiting for one to end")
    builders = {copy.spec.node_name for copy in copies if copy.spec.fetch is None}

    def rank(state: NodeState) -> tuple[bool, int, bool, str]:
        # At equal load the builder comes last: the next build will be its work again.
        load = usage.instances.get(state.name, 0)
        return state.name not in warm, load, state.name in builders, state.name

    restoring = [state for state in feasible if state.name in holding and state.can_restore]
    if restoring and instance.spec.start is not StartPolicy.COLD_START:
        return Binding(min(restoring, key=rank).name, revision)
    if instance.spec.start is StartPolicy.RESTORE_ONLY:
        return Unbound(
            "NoCopy",
            f"no node with room holds a verified copy of {checkpoint.metadata.name} and can thaw; "
            "spec.start is RestoreOnly, so it waits for one",
        )
    return Binding(min(feasible, key=rank).name, revision)


def unfit_reason(state: NodeState, usage: Usage, needs: _Needs, *, warm: bool) -> str:
    """Say why a node has no room for a copy; empty where it has.

    A warm one fills no more memory and disk than it does already.
    """
    status = state.agent.status
    # Nothing that changes from moment to moment: each waiting demo's status says it.
    if usage.instances.get(state.name, 0) >= status.capacity:
        return f"runs {status.capacity}, its most"
    free_bytes = status.memory_available_bytes
    if not warm:
        free_bytes -= usage.reserved_bytes.get(state.name, 0)
    if free_bytes <= 0 or (free_bytes < needs.memory_bytes and not warm):
        needed = f": it needs {needs.memory_bytes / 2**20:.0f} MiB" if needs.memory_bytes else ""
        return f"is short of memory{needed}"
    return state.disk_shortage(0 if warm else needs.disk_bytes)


def _no_node(candidates: list[NodeState]) -> Unbound:
    if not candidates:
        message = (
            "no node runs an agent and matches the Checkpoint's spec.distribution.nodeSelector; "
            "see `kubectl get nodeagents`"
        )
    else:
        names = ", ".join(f"{state.name} {state.closed_reason()}" for state in candidates)
        message = f"no selected node can run it ({names}); see `kubectl get nodeagents -o wide`"
    return Unbound("NoNode", message)
