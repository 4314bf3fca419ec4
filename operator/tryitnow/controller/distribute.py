"""The nodes that hold the revision that serves, and the agents that each fetches it from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tryitnow.api.archive import Archive
from tryitnow.api.checkpoint import Checkpoint
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
from tryitnow.controller.usage import archive_disk_bytes

_ON_ITS_WAY = frozenset(
    {
        NodeCheckpointPhase.PENDING,
        NodeCheckpointPhase.FETCHING,
        NodeCheckpointPhase.PREPARING,
        NodeCheckpointPhase.VERIFYING,
    }
)

MAX_SOURCES = 5
"""Agents named to a node that is to fetch: enough that one is there, few enough to read."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """The state of the NodeCheckpoints, and the next actions."""

    create: tuple[NodeCheckpointSpec, ...] = ()
    fetch_updates: tuple[tuple[NodeCheckpoint, Fetch], ...] = ()
    """NodeCheckpoints whose agents are to fetch from other sources now."""

    delete: tuple[NodeCheckpoint, ...] = ()
    nodes_ready: int = 0
    nodes_desired: int = 0
    is_fetching: bool = False
    """Whether a node is expected to become Ready soon."""

    missing: tuple[str, ...] = ()
    """Nodes that are to hold the revision and have no Ready NodeCheckpoint."""

    message: str = ""


def plan_distribution(observed: Observed, serving: Serving) -> Distribution:
    """Decide which nodes hold the revision that serves."""
    good = observed.good(serving.revision)
    candidates, unlike = _alike(observed, good, serving.archive)
    present = {c.spec.node_name: c for c in observed.present if c.spec.revision == serving.revision}
    archive_bytes = archive_disk_bytes(serving.archive)
    holding = {node_checkpoint.spec.node_name for node_checkpoint in good}
    chosen = holders(observed.checkpoint, candidates, holding, set(present), archive_bytes)
    if serving.revision is None or serving.archive is None:
        return Distribution(nodes_desired=len(chosen))
    create: list[NodeCheckpointSpec] = []
    updates: list[tuple[NodeCheckpoint, Fetch]] = []
    missing: list[str] = []
    unable: list[str] = []
    ready, is_fetching = 0, False
    for state in chosen:
        node_checkpoint = present.get(state.name)
        if node_checkpoint is not None and node_checkpoint.is_ready:
            if state.can_restore:
                ready += 1
            else:
                unable.append(state.name)
            continue
        missing.append(state.name)
        if state.is_lost:
            continue
        order = order_for(state.name, serving.archive, good, observed.nodes)
        if node_checkpoint is None:
            # The node's agent reads the definition in the revision.
            if serving.revision in observed.revisions and Attempt.CREATE not in observed.refused:
                create.append(_fetching(observed, serving.revision, state.name, order))
                is_fetching = True
        elif not node_checkpoint.is_deleting:
            if node_checkpoint.spec.fetch != order:
                updates.append((node_checkpoint, order))
            is_fetching |= _is_expected(node_checkpoint)
    names = {state.name for state in chosen}
    # A node that is no longer to hold the revision gives its space back. It does so only when one
    # of the chosen nodes has the archive: there would be no source to fetch from otherwise.
    is_held = any(node_checkpoint.spec.node_name in names for node_checkpoint in good)
    return Distribution(
        create=tuple(create),
        fetch_updates=tuple(updates),
        delete=tuple(c for node, c in present.items() if is_held and node not in names),
        nodes_ready=ready,
        nodes_desired=len(chosen),
        is_fetching=is_fetching,
        missing=tuple(missing),
        message="; ".join(
            [
                f"demos can be restored on {ready} of {len(chosen)} nodes",
                *_unable_message(unable),
                *_missing_message(missing),
                *_foreign_message(missing, holding, observed.nodes),
                *_closed_message(observed.checkpoint, candidates, chosen, archive_bytes),
                *_unlike_message(unlike),
            ]
        ),
    )


def _unable_message(unable: list[str]) -> list[str]:
    if not unable:
        return []
    return [f"silent or without CRIU: {', '.join(unable)} (see `kubectl get nodeagents`)"]


def _missing_message(missing: list[str]) -> list[str]:
    return [f"without a Ready NodeCheckpoint: {', '.join(missing)}"] if missing else []


def _foreign_message(
    missing: list[str], holding: set[str], nodes: Mapping[str, NodeState]
) -> list[str]:
    """Name the nodes that nothing is fetched from because their agents name another place."""
    foreign = [
        f"{name} ({state.agent.status.transfer_url})"
        for name in sorted(holding)
        if (state := nodes.get(name)) is not None and state.has_foreign_url
    ]
    if not missing or not foreign:
        return []
    return [
        f"nothing is fetched from {', '.join(foreign)}: its transferUrl is not at an address of "
        "its Node and agent.transferPort"
    ]


def _closed_message(
    checkpoint: Checkpoint,
    candidates: list[NodeState],
    chosen: list[NodeState],
    archive_bytes: int,
) -> list[str]:
    """Name the nodes that would hold the revision if they were open."""
    limit = checkpoint.spec.distribution.copies
    if limit is not None and len(chosen) >= limit:
        return []
    names = {state.name for state in chosen}
    closed = [
        f"{state.name} ({why})"
        for state in candidates
        if state.name not in names and (why := _closed_reason(state, archive_bytes))
    ]
    return [f"no NodeCheckpoint goes to {', '.join(closed)}"] if closed else []


def _fetching(observed: Observed, revision: str, node: str, order: Fetch) -> NodeCheckpointSpec:
    return NodeCheckpointSpec(
        checkpoint=observed.checkpoint.metadata.name,
        revision=revision,
        node_name=node,
        fetch=order,
    )


def _alike(
    observed: Observed, good: list[NodeCheckpoint], archive: Archive | None
) -> tuple[list[NodeState], dict[str, str]]:
    """Return the selected nodes that the archive may run on, and why the others are none.

    Nothing is sent where a processor cannot run it: demos start cold there.
    """
    if not good:
        return observed.selected, {}
    # The builder's, where it still has its own: nodes of any architecture fetched before this rule.
    first = min(good, key=lambda node_checkpoint: node_checkpoint.spec.fetch is not None)
    architecture = observed.architectures[first.spec.node_name]
    alike, unlike = [], {}
    for state in observed.selected:
        if (own := observed.architectures[state.name]) != architecture:
            unlike[state.name] = f"{own or 'unknown'}, where the archive is of {architecture}"
        elif lacks := state.processor_shortage(archive):
            unlike[state.name] = lacks
        else:
            alike.append(state)
    return alike, unlike


def _unlike_message(unlike: dict[str, str]) -> list[str]:
    if not unlike:
        return []
    nodes = ", ".join(f"{node} ({why})" for node, why in sorted(unlike.items()))
    return [
        f"demos start cold on {nodes}: keep the Checkpoint to one kind of node by "
        "spec.distribution.nodeSelector"
    ]


def _is_expected(node_checkpoint: NodeCheckpoint) -> bool:
    """Whether a NodeCheckpoint will be Ready soon; after a failure a person may have to act."""
    ready = find_condition(node_checkpoint.status.conditions, "Ready")
    phases = set(NodeCheckpointPhase)
    failed = ready is not None and ready.reason not in phases
    return node_checkpoint.status.phase in _ON_ITS_WAY and not failed


def holders(
    checkpoint: Checkpoint,
    candidates: list[NodeState],
    holding: set[str],
    ordered: set[str],
    archive_bytes: int,
) -> list[NodeState]:
    """Return the nodes that are to hold the revision: those that do already first, then by hash.

    A node that is closed by the cluster, or whose disk has no room, keeps what it has and gets no
    more. Where all chosen nodes are closed, one more node holds the revision meanwhile: no demo
    could start otherwise. A node whose agent is silent or not fit may be back at any moment.

    Args:
        checkpoint: The Checkpoint of the revision.
        candidates: The nodes to choose from.
        holding: Names of the nodes that have a Ready NodeCheckpoint.
        ordered: Names of the nodes that have any NodeCheckpoint: its room is counted already.
        archive_bytes: Disk that the archive takes on a node.

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
    limit = checkpoint.spec.distribution.copies
    chosen, others = (
        ranked[:limit],
        ranked[limit:] if limit is not None else [],
    )
    if not any(state.name in open_ for state in chosen):
        chosen += [state for state in others if state.name in open_][:1]
    return chosen


def _closed_reason(state: NodeState, disk_bytes: int) -> str:
    return state.lastingly_closed_reason or state.disk_shortage(disk_bytes)


def order_for(
    node_name: str,
    archive: Archive,
    good: list[NodeCheckpoint],
    nodes: Mapping[str, NodeState],
) -> Fetch:
    """Return where a node is to fetch the archive from."""
    sources = [
        Source(
            node_name=node_checkpoint.spec.node_name,
            url=state.transfer_url,
            certificate=state.agent.status.transfer_certificate,
        )
        for node_checkpoint in sorted(good, key=lambda c: preference(node_name, c.spec.node_name))
        if node_checkpoint.spec.node_name != node_name
        and node_checkpoint.status.archive is not None
        and node_checkpoint.status.archive.sha256 == archive.sha256
        and (state := nodes.get(node_checkpoint.spec.node_name)) is not None
        and not state.is_lost
        and state.transfer_url
        and state.agent.status.transfer_certificate
    ]
    return Fetch(archive=archive, sources=tuple(sources[:MAX_SOURCES]))
