"""The warm sandboxes of a Checkpoint, spread over the nodes that hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tryitnow.api.checkpoint import Checkpoint, Pool
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.nodes import NodeState, preference
from tryitnow.controller.observed import Observed
from tryitnow.controller.serve import Serving


@dataclass(frozen=True, kw_only=True)
class WarmSandboxes:
    """The state of the warm sandboxes, and the next actions."""

    updates: tuple[tuple[NodeCheckpoint, Pool], ...] = ()
    """NodeCheckpoints whose share of the pool has changed, each with the new one."""

    ready: int = 0
    message: str | None = None
    """The reason why fewer wait than ``spec.pool.warm``."""


def plan_pool(observed: Observed, serving: Serving) -> WarmSandboxes:
    """Spread the warm sandboxes over the NodeCheckpoints that serve; other revisions keep none."""
    good = observed.good(serving.revision)
    # A node that gets no demos needs no warm sandboxes.
    claimable = [
        node_checkpoint
        for node_checkpoint in good
        if (state := observed.nodes.get(node_checkpoint.spec.node_name)) is not None
        and not state.lastingly_closed_reason
        and not state.disk_shortage()
    ]
    wanted = shares(observed.checkpoint, claimable, observed.nodes)
    serves = {node_checkpoint.key for node_checkpoint in good}
    none = Pool()
    updates = []
    for node_checkpoint in observed.present:
        share = (
            wanted.get(node_checkpoint.spec.node_name, none)
            if node_checkpoint.key in serves
            else none
        )
        if node_checkpoint.spec.pool != share and not node_checkpoint.is_deleting:
            updates.append((node_checkpoint, share))
    waiting = [
        node_checkpoint for node_checkpoint in good if node_checkpoint.spec.node_name in wanted
    ]
    reasons = sorted(
        node_checkpoint.status.warm_message
        for node_checkpoint in waiting
        if node_checkpoint.status.warm_message
    )
    return WarmSandboxes(
        updates=tuple(updates),
        ready=sum(node_checkpoint.status.warm_ready for node_checkpoint in waiting),
        message="; ".join(reasons) or None,
    )


def shares(
    checkpoint: Checkpoint, good: list[NodeCheckpoint], nodes: Mapping[str, NodeState]
) -> dict[str, Pool]:
    """Spread the warm sandboxes over the nodes that are Ready and can restore, by node name.

    The shares are as even as possible. The remainder goes by hash, so that it moves only when nodes
    do. A sandbox on a node that no longer has a share stays until as many wait on the other nodes:
    there is always one to claim when nodes come or go.
    """
    pool = checkpoint.spec.pool
    able = [
        node_checkpoint
        for node_checkpoint in good
        if (state := nodes.get(node_checkpoint.spec.node_name)) is not None and state.can_restore
    ]
    able.sort(
        key=lambda node_checkpoint: preference(
            checkpoint.metadata.uid, node_checkpoint.spec.node_name
        )
    )
    even = [(pool.warm + len(able) - 1 - place) // len(able) for place in range(len(able))]
    waiting = [node_checkpoint.status.warm_ready for node_checkpoint in able]
    missing = pool.warm - sum(map(min, even, waiting))
    wanted: dict[str, Pool] = {}
    for node_checkpoint, share, has in zip(able, even, waiting, strict=True):
        kept = min(max(has - share, 0), missing)
        missing -= kept
        wanted[node_checkpoint.spec.node_name] = pool.model_copy(update={"warm": share + kept})
    return wanted
