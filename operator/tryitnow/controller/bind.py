"""Which node runs an instance."""

from __future__ import annotations

from dataclasses import dataclass

from tryitnow.api.checkpoint import Checkpoint, Lifetimes, OnCrash
from tryitnow.api.demoinstance import DemoInstance, StartPolicy
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.nodes import NodeState
from tryitnow.controller.usage import Usage, memory_bytes


@dataclass(frozen=True)
class Binding:
    """The instance runs there."""

    node_name: str
    revision: str
    """Identity of the revision that it is started from."""

    on_crash: OnCrash = OnCrash.KEEP
    """What happens when a container of the instance ends."""

    lifetimes: Lifetimes | None = None
    """The limits of its lifetime; None where its Checkpoint has none."""


@dataclass(frozen=True)
class Unbound:
    """The instance cannot run anywhere right now."""

    reason: str
    message: str


@dataclass(frozen=True)
class _Needs:
    """Memory and disk of a node that a demo fills."""

    memory_bytes: int
    disk_bytes: int


def bind(
    instance: DemoInstance,
    checkpoint: Checkpoint,
    revision: str,
    node_checkpoints: list[NodeCheckpoint],
    candidates: list[NodeState],
    usage: Usage,
) -> Binding | Unbound:
    """Choose a node that has room and can restore; one with a warm sandbox first.

    Among equals the least loaded comes first.

    Without such a node the instance starts cold on any node with room, unless its spec forbids it.

    Args:
        instance: The instance that needs a node.
        checkpoint: Its Checkpoint.
        revision: Identity of the revision that it is to be started from.
        node_checkpoints: All NodeCheckpoints of that Checkpoint.
        candidates: The nodes that the Checkpoint selects.
        usage: How much of the nodes is given away already.

    """
    open_ = [state for state in candidates if not state.closed_reason()]
    if not open_:
        return _no_node(candidates)
    good = [
        node_checkpoint
        for node_checkpoint in node_checkpoints
        if node_checkpoint.is_ready and node_checkpoint.spec.revision == revision
    ]
    warm = {
        node_checkpoint.spec.node_name
        for node_checkpoint in good
        if node_checkpoint.claimable > usage.claiming.get(node_checkpoint.spec.node_name, 0)
    }
    needs = _Needs(
        max((memory_bytes(node_checkpoint) for node_checkpoint in good), default=0),
        max((node_checkpoint.status.disk_bytes for node_checkpoint in good), default=0),
    )
    claims = instance.spec.start is not StartPolicy.COLD_START
    unfit = {
        state.name: why
        for state in open_
        if (why := unfit_reason(state, usage, needs, warm=claims and state.name in warm))
    }
    feasible = [state for state in open_ if state.name not in unfit]
    if not feasible:
        reasons = ", ".join(f"{node} {why}" for node, why in unfit.items())
        return Unbound(
            "NoRoom", f"no selected node has room ({reasons}); waiting for a demo to end"
        )
    limits = checkpoint.spec.limits
    lifetimes = Lifetimes(default_ttl=limits.default_ttl, max_ttl=limits.max_ttl)
    decided = (
        revision,
        instance.spec.on_crash or checkpoint.spec.on_crash,
        lifetimes if lifetimes != Lifetimes() else None,
    )
    builders = {
        node_checkpoint.spec.node_name
        for node_checkpoint in node_checkpoints
        if node_checkpoint.spec.fetch is None
    }

    def rank(state: NodeState) -> tuple[bool, bool, int, bool, str]:
        # At equal load the builder comes last: the next build will be its work again.
        load = usage.instances.get(state.name, 0)
        reserved_bytes = usage.reserved_bytes.get(state.name, 0)
        # Where no warm sandbox has to give way, the demo waits for none to be removed.
        is_short = state.memory_available_bytes - reserved_bytes < max(needs.memory_bytes, 1)
        return state.name not in warm, is_short, load, state.name in builders, state.name

    archives = {c.spec.node_name: c.status.archive for c in good}
    restoring = [
        state
        for state in feasible
        if state.name in archives
        and state.can_restore
        and not state.processor_shortage(archives[state.name])
    ]
    if restoring and instance.spec.start is not StartPolicy.COLD_START:
        return Binding(min(restoring, key=rank).name, *decided)
    if instance.spec.start is StartPolicy.RESTORE_ONLY:
        return Unbound(
            "NoNodeCheckpoint",
            f"no node with room can restore {checkpoint.metadata.name}; spec.start is RestoreOnly, "
            "so the demo waits for such a node",
        )
    return Binding(min(feasible, key=rank).name, *decided)


def unfit_reason(state: NodeState, usage: Usage, needs: _Needs, *, warm: bool) -> str:
    """Say why a node has no room for a demo; empty where it has.

    A warm sandbox fills its memory and disk already.
    """
    status = state.agent.status
    # Without figures that change all the time: each waiting demo's status repeats this.
    if usage.instances.get(state.name, 0) >= status.capacity:
        return f"runs {status.capacity}, its maximum"
    share = status.namespace_capacity
    if share is not None and usage.of_namespace.get(state.name, 0) >= share:
        return f"runs {share} of this namespace, its maximum (agent.namespaceShare)"
    # Warm sandboxes give way to a demo: the agent removes as many as it takes.
    free_bytes = state.memory_available_bytes + usage.warm_bytes.get(state.name, 0)
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
