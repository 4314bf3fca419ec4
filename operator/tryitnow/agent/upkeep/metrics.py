"""The node's state, read for its metrics at each scrape."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator

from tryitnow.agent.node import Node
from tryitnow.api.demoinstance import DemoInstancePhase
from tryitnow.api.nodecheckpoint import NodeCheckpointPhase
from tryitnow.metrics.instruments import Reading
from tryitnow.metrics.node import (
    AGENT_ARCHIVE_BYTES,
    AGENT_INSTANCES,
    AGENT_NODE_CHECKPOINTS,
    AGENT_POOL,
    AGENT_POOL_DESIRED,
    AGENT_PORTS_LIMIT,
    AGENT_PORTS_TAKEN,
    AGENT_PREPARED,
    AGENT_SOFTWARE,
    DIRECTORY_FREE_BYTES,
    DIRECTORY_SIZE_BYTES,
    NOT_ANSWERING,
    STORAGE_CHANGED,
)

logger = logging.getLogger(__name__)


def gauges(node: Node) -> Iterator[Reading]:
    """Read the node's state from what the agent works with."""
    phases = Counter(
        DemoInstancePhase.TERMINATING if demo.is_deleting else demo.status.phase
        for demo in node.demos
    )
    for phase in DemoInstancePhase:
        yield Reading(AGENT_INSTANCES, phases[phase], (str(phase),))
    yield from _node_checkpoints(node)
    yield from _pools(node)
    yield Reading(NOT_ANSWERING, node.demo_tools.verdicts.not_answering)
    yield Reading(STORAGE_CHANGED, int(node.guard.problem is not None))
    yield Reading(AGENT_PORTS_TAKEN, node.ports.taken)
    yield Reading(AGENT_PORTS_LIMIT, node.ports.limit)
    yield from _directory(node)
    versions = node.health.current.versions
    software = (versions.kernel, versions.criu, versions.podman, versions.runtime)
    yield Reading(AGENT_SOFTWARE, 1, software)


def _node_checkpoints(node: Node) -> Iterator[Reading]:
    held = list(node.node_checkpoints)
    phases = Counter(one.status.phase for one in held)
    for phase in NodeCheckpointPhase:
        yield Reading(AGENT_NODE_CHECKPOINTS, phases[phase], (str(phase),))
    archives = (one.status.archive for one in held if one.is_ready)
    yield Reading(AGENT_ARCHIVE_BYTES, sum(archive.size_bytes for archive in archives if archive))
    prepared = sum(actor.state.generation is not None for actor in node.checkpoints)
    yield Reading(AGENT_PREPARED, prepared)


def _pools(node: Node) -> Iterator[Reading]:
    waiting: Counter[tuple[str, ...]] = Counter()
    desired: Counter[tuple[str, ...]] = Counter()
    for actor in node.checkpoints:
        # Two revisions of a Checkpoint may lie here at once.
        labels = tuple(actor.resource.checkpoint_key)
        waiting[labels] += actor.warm_ready
        desired[labels] += actor.resource.spec.pool.warm
    for labels, number in waiting.items():
        yield Reading(AGENT_POOL, number, labels)
    for labels, number in desired.items():
        yield Reading(AGENT_POOL_DESIRED, number, labels)


def _directory(node: Node) -> Iterator[Reading]:
    try:
        usage = shutil.disk_usage(node.archives.directory)
    except OSError as error:
        # A broken disk must not take all other figures along.
        logger.warning("cannot measure %s: %s", node.archives.directory, error)
        return
    yield Reading(DIRECTORY_FREE_BYTES, usage.free)
    yield Reading(DIRECTORY_SIZE_BYTES, usage.total)
