"""The warm copies of a Checkpoint, spread over the nodes that hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tryitnow.api.checkpoint import Checkpoint, Pool
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.nodes import NodeState, preference
from tryitnow.controller.observed import Observed
from tryitnow.controller.serve import Serving


@dataclass(frozen=True, kw_only=True)
class WarmCopies:
    """The state of the warm copies, and the next actions."""

    updates: tuple[tuple[NodeCheckpoint, Pool], ...] = ()
    """Copies whose node's share is another now."""

    ready: int = 0
    message: str | None = None
    """Why fewer wait than are wanted."""


def plan_pool(observed: Observed, serving: Serving) -> WarmCopies:
    """Spread the warm copies over the copies that serve; other revisions keep none."""
    good = observed.good(serving.revision)
    # A node that gets no demos needs no warm copies.
    claimable = [
        copy
        for copy in good
        if (state := observed.nodes.get(copy.spec.node_name)) is not None
        and not state.closed_by_cluster
        and not state.disk_shortage()
    ]
    wanted = shares(observed.checkpoint, claimable, observed.nodes)
    serves = {copy.key for copy in good}
    none = Pool()
    updates = []
    for copy in observed.present:
        share = wanted.get(copy.spec.node_name, none) if copy.key in serves else none
        if copy.spec.pool != share and not copy.is_deleting:
            updates.append((copy, share))
    waiting = [copy for copy in good if copy.spec.node_name in wanted]
    said = sorted(copy.status.warm_message for copy in waiting if copy.status.warm_message)
    return WarmCopies(
        updates=tuple(updates),
        ready=sum(copy.status.warm_ready for copy in waiting),
        message="; ".join(said) or None,
    )


def shares(
    checkpoint: Checkpoint, good: list[NodeCheckpoint], nodes: Mapping[str, NodeState]
) -> dict[str, Pool]:
    """Spread the warm copies over the nodes that hold a good copy and can thaw, by node name.

    As even as possible; what is left over goes by hash, so that it moves only when nodes do. What
    waits where it no longer should stays until as many wait where they should: a node that came
    or went leaves no moment in which there is nothing to claim.
    """
    pool = checkpoint.spec.pool
    able = [
        copy
        for copy in good
        if (state := nodes.get(copy.spec.node_name)) is not None and state.can_restore
    ]
    able.sort(key=lambda copy: preference(checkpoint.metadata.uid, copy.spec.node_name))
    even = [(pool.warm + len(able) - 1 - place) // len(able) for place in range(len(able))]
    waiting = [copy.status.warm_ready for copy in able]
    missing = pool.warm - sum(map(min, even, waiting))
    wanted: dict[str, Pool] = {}
    for copy, share, has in zip(able, even, waiting, strict=True):
        kept = min(max(has - share, 0), missing)
        missing -= kept
        wanted[copy.spec.node_name] = pool.model_copy(update={"warm": share + kept})
    return wanted
