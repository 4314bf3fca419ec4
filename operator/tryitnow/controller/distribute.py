"""The nodes that hold a copy of the revision that serves, and the source of each copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tryitnow.api.checkpoint import Archive, Checkpoint
from tryitnow.api.meta import find_condition
from tryitnow.api.nodecheckpoint import (
    Fetch,
    NodeCheckpoint,
    NodeCheckpointPhase,
    NodeCheckpointSpec,
    Source,
)
from tryitnow.controller.nodes import NodeState, preference
from tryitnow.controller.observed import Observed
from tryitnow.controller.refusals import Attempt
from tryitnow.controller.serve import Serving

MAX_SOURCES = 5
"""Agents named to a node that is to fetch: enough that one is there, few enough to read."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """The state of the copies, and the next actions."""

    create: tuple[NodeCheckpointSpec, ...] = ()
    fetch_updates: tuple[tuple[NodeCheckpoint, Fetch], ...] = ()
    """Copies that are to come from elsewhere than they were told."""

    delete: tuple[NodeCheckpoint, ...] = ()
    nodes_ready: int = 0
    nodes_desired: int = 0
    is_copying: bool = False
    """Whether a copy is expected soon."""

    missing: tuple[str, ...] = ()
    """Nodes that are to hold a copy and do not."""

    message: str = ""


def plan_distribution(observed: Observed, serving: Serving) -> Distribution:
    """Decide which nodes hold a copy of the revision that serves."""
    good = observed.good(serving.revision)
    candidates = _alike(observed, good)
    present = {c.spec.node_name: c for c in observed.present if c.spec.revision == serving.revision}
    archive_bytes = serving.archive.size_bytes if serving.archive is not None else 0
    holding = {copy.spec.node_name for copy in good}
    chosen = holders(observed.checkpoint, candidates, holding, set(present), archive_bytes)
    if serving.revision is None or serving.archive is None:
        return Distribution(nodes_desired=len(chosen))
    create: list[NodeCheckpointSpec] = []
    updates: list[tuple[NodeCheckpoint, Fetch]] = []
    missing: list[str] = []
    unable: list[str] = []
    ready, is_copying = 0, False
    for state in chosen:
        copy = present.get(state.name)
        if copy is not None and copy.is_prepared:
            if state.can_restore:
                ready += 1
            else:
                unable.append(state.name)
            continue
        missing.append(state.name)
        if state.is_lost:
            continue
        order = order_for(state.name, serving.archive, good, observed.nodes)
        if copy is None:
            if Attempt.CREATE not in observed.refused:
                create.append(_fetching(observed, serving.revision, state.name, good[0], order))
                is_copying = True
        elif not copy.is_deleting:
            if copy.spec.fetch != order:
                updates.append((copy, order))
            is_copying |= _is_expected(copy)
    names = {state.name for state in chosen}
    # A node that is no longer to hold a copy gives its space back: not before one that is to hold a
    # copy has it, or there would be no source to fetch from.
    is_held = any(copy.spec.node_name in names for copy in good)
    return Distribution(
        create=tuple(create),
        fetch_updates=tuple(updates),
        delete=tuple(c for node, c in present.items() if is_held and node not in names),
        nodes_ready=ready,
        nodes_desired=len(chosen),
        is_copying=is_copying,
        missing=tuple(missing),
        message="; ".join(
            [
                f"demos are thawed on {ready} of {len(chosen)} nodes",
                *_unable_message(unable),
                *_missing_message(missing),
                *_closed_message(observed.checkpoint, candidates, chosen, archive_bytes),
            ]
        ),
    )


def _unable_message(unable: list[str]) -> list[str]:
    if not unable:
        return []
    return [f"silent or without CRIU: {', '.join(unable)} (see `kubectl get nodeagents`)"]


def _missing_message(missing: list[str]) -> list[str]:
    return [f"without a copy: {', '.join(missing)}"] if missing else []


def _closed_message(
    checkpoint: Checkpoint,
    candidates: list[NodeState],
    chosen: list[NodeState],
    archive_bytes: int,
) -> list[str]:
    """Say which nodes would hold a copy if they were open."""
    copies = checkpoint.spec.distribution.copies
    if copies is not None and len(chosen) >= copies:
        return []
    names = {state.name for state in chosen}
    closed = [
        f"{state.name} ({why})"
        for state in candidates
        if state.name not in names and (why := _closed_reason(state, archive_bytes))
    ]
    return [f"no copy goes to {', '.join(closed)}"] if closed else []


def _fetching(
    observed: Observed, revision: str, node: str, like: NodeCheckpoint, order: Fetch
) -> NodeCheckpointSpec:
    return NodeCheckpointSpec(
        checkpoint=observed.checkpoint.metadata.name,
        revision=revision,
        node_name=node,
        blueprint=like.spec.blueprint,
        fetch=order,
    )


def _alike(observed: Observed, good: list[NodeCheckpoint]) -> list[NodeState]:
    """Return the selected nodes of the architecture that the copies were frozen on."""
    if not good:
        return observed.selected
    # The builder's, where it still has its own: before there was this rule, copies went anywhere.
    first = min(good, key=lambda copy: copy.spec.fetch is not None)
    architecture = observed.architectures[first.spec.node_name]
    return [
        state for state in observed.selected if observed.architectures[state.name] == architecture
    ]


def _is_expected(copy: NodeCheckpoint) -> bool:
    """Whether a copy is expected soon: one that failed to arrive may need somebody to act."""
    ready = find_condition(copy.status.conditions, "Ready")
    phases = set(NodeCheckpointPhase)
    failed = ready is not None and ready.reason not in phases
    on_its_way = {NodeCheckpointPhase.PENDING, NodeCheckpointPhase.DOWNLOADING}
    return copy.status.phase in on_its_way and not failed


def holders(
    checkpoint: Checkpoint,
    candidates: list[NodeState],
    holding: set[str],
    ordered: set[str],
    archive_bytes: int,
) -> list[NodeState]:
    """Return the nodes that are to hold a copy: those that do already first, then by hash.

    A node that is closed by the cluster, or whose disk has no room, keeps what it has and gets no
    more. Where all that are chosen are closed, one more node holds a copy meanwhile, or nobody
    could be given a demo. A node whose agent is silent or not fit may be back at any moment.

    Args:
        checkpoint: The Checkpoint of the copies.
        candidates: The nodes to choose from.
        holding: Names of those that hold a good copy.
        ordered: Names of those for which a copy is ordered: its room is counted already.
        archive_bytes: Size of the archive.

    """
    open_ = {
        state.name
        for state in candidates
        if not _closed_reason(state, 0 if state.name in ordered else archive_bytes)
    }
    ranked = sorted(
        (state for state in candidates if state.name in open_ | holding),
        key=lambda state: (
            state.name not in holding,
            not state.can_restore,
            preference(checkpoint.metadata.uid, state.name),
        ),
    )
    copies = checkpoint.spec.distribution.copies
    chosen, others = ranked[:copies], ranked[copies:] if copies is not None else []
    if not any(state.name in open_ for state in chosen):
        chosen += [state for state in others if state.name in open_][:1]
    return chosen


def _closed_reason(state: NodeState, disk_bytes: int) -> str:
    return state.closed_by_cluster or state.disk_shortage(disk_bytes)


def order_for(
    node_name: str,
    archive: Archive,
    good: list[NodeCheckpoint],
    nodes: Mapping[str, NodeState],
) -> Fetch:
    """Return where a node is to fetch the archive from."""
    sources = [
        Source(
            node_name=copy.spec.node_name,
            url=state.agent.status.transfer_url,
            certificate=state.agent.status.transfer_certificate,
        )
        for copy in sorted(good, key=lambda c: preference(node_name, c.spec.node_name))
        if copy.spec.node_name != node_name
        and copy.status.archive is not None
        and copy.status.archive.sha256 == archive.sha256
        and (state := nodes.get(copy.spec.node_name)) is not None
        and not state.is_lost
        and state.agent.status.transfer_url
        and state.agent.status.transfer_certificate
    ]
    return Fetch(archive=archive, sources=tuple(sources[:MAX_SOURCES]))
