"""Which nodes build and hold a Checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from datetime import datetime

from tryitnow.api.archive import Archive
from tryitnow.api.checkpoint import Checkpoint, Distribution, Pool
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpoint, Source

MAX_SOURCES = 5
"""Agents named to a node that is to fetch: enough that one is there, few enough to read."""


def selected(
    distribution: Distribution,
    agents: Iterable[NodeAgent],
    labels: Mapping[str, Mapping[str, str]],
) -> list[NodeAgent]:
    """Return the agents on nodes that the node selector picks, healthy or not."""
    wanted = distribution.node_selector.items()
    return [
        agent
        for agent in agents
        if not agent.is_deleting
        and agent.metadata.name in labels
        and all(labels[agent.metadata.name].get(key) == value for key, value in wanted)
    ]


def preference(seed: str, node_name: str) -> str:
    """Return a sort key that spreads different checkpoints over the nodes, the same each time.

    Rendezvous hashing: when a node comes or goes, the others keep what they hold.
    """
    return hashlib.sha256(f"{seed}/{node_name}".encode()).hexdigest()


def choose_builder(
    checkpoint: Checkpoint, candidates: list[NodeAgent], at: datetime, avoid: str | None
) -> NodeAgent | None:
    """Return the agent that is to build: one that can freeze, if possible not the one that failed.

    A build needs memory for the application twice (once frozen, once in the test restore), so
    memory decides before chance does.
    """
    able = [agent for agent in candidates if agent.can_restore(at) and agent.can_take(at)]
    return min(
        able,
        key=lambda agent: (
            agent.metadata.name == avoid,
            # In steps of a gigabyte, or the noise of a few pages would decide.
            -(agent.status.memory_available_bytes >> 30),
            preference(checkpoint.metadata.uid, agent.metadata.name),
        ),
        default=None,
    )


def holders(
    checkpoint: Checkpoint,
    candidates: list[NodeAgent],
    holding: set[str],
    cordoned: Set[str],
    at: datetime,
) -> list[NodeAgent]:
    """Return the agents that are to hold a copy: those that do already first, then by hash.

    A cordoned node keeps what it has and gets no more. Where all that are chosen are cordoned, one
    more node holds a copy meanwhile, or nobody could be given a demo.
    """
    open_ = {a.metadata.name for a in candidates} - cordoned
    ranked = sorted(
        (a for a in candidates if a.metadata.name in open_ | holding),
        key=lambda agent: (
            agent.metadata.name not in holding,
            not agent.can_restore(at),
            preference(checkpoint.metadata.uid, agent.metadata.name),
        ),
    )
    copies = checkpoint.spec.distribution.copies
    chosen, others = ranked[:copies], ranked[copies:] if copies is not None else []
    if not any(agent.metadata.name in open_ for agent in chosen):
        chosen += [agent for agent in others if agent.metadata.name in open_][:1]
    return chosen


def order_for(
    node_name: str,
    archive: Archive,
    good: list[NodeCheckpoint],
    agents: Mapping[str, NodeAgent],
    at: datetime,
) -> Fetch:
    """Return where a node is to fetch the archive from."""
    sources = [
        Source(
            node_name=copy.spec.node_name,
            url=agent.status.transfer_url,
            certificate=agent.status.transfer_certificate,
        )
        for copy in sorted(good, key=lambda c: preference(node_name, c.spec.node_name))
        if copy.spec.node_name != node_name
        and copy.status.archive is not None
        and copy.status.archive.sha256 == archive.sha256
        and (agent := agents.get(copy.spec.node_name)) is not None
        and not agent.is_lost(at)
        and agent.status.transfer_url
        and agent.status.transfer_certificate
    ]
    return Fetch(archive=archive, sources=tuple(sources[:MAX_SOURCES]))


def shares(
    checkpoint: Checkpoint,
    good: list[NodeCheckpoint],
    agents: Mapping[str, NodeAgent],
    at: datetime,
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
        if (agent := agents.get(copy.spec.node_name)) is not None and agent.can_restore(at)
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
