"""How things stand on this node, read for its metrics at each scrape."""

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
    AGENT_COPIES,
    AGENT_COPY_BYTES,
    AGENT_INSTANCES,
    AGENT_POOL,
    AGENT_POOL_DESIRED,
    AGENT_PORTS_LIMIT,
    AGENT_PORTS_TAKEN,
    AGENT_PREPARED,
    AGENT_SOFTWARE,
    DIRECTORY_FREE_BYTES,
    DIRECTORY_SIZE_BYTES,
)

logger = logging.getLogger(__name__)


def states(node: Node) -> Iterator[Reading]:
    """Read the node's state from what the agent works with."""
    phases = Counter(
        DemoInstancePhase.TERMINATING if instance.is_deleting else instance.status.phase
        for instance in node.instances
    )
    for phase in DemoInstancePhase:
        yield Reading(AGENT_INSTANCES, phases[phase], (str(phase),))
    yield from _copies(node)
    yield from _pools(node)
    yield Reading(AGENT_PREPARED, len(node.prepared))
    yield Reading(AGENT_PORTS_TAKEN, node.ports.taken)
    yield Reading(AGENT_PORTS_LIMIT, node.ports.limit)
    yield from _directory(node)
    versions = node.health.versions
    software = (versions.kernel, versions.criu, versions.podman, versions.runtime)
    yield Reading(AGENT_SOFTWARE, 1, software)


def _copies(node: Node) -> Iterator[Reading]:
    phases = Counter(copy.status.phase for copy in node.copies)
    for phase in NodeCheckpointPhase:
        yield Reading(AGENT_COPIES, phases[phase], (str(phase),))
    archives = (copy.status.archive for copy in node.copies if copy.is_prepared)
    yield Reading(AGENT_COPY_BYTES, sum(archive.size_bytes for archive in archives if archive))


def _pools(node: Node) -> Iterator[Reading]:
    waiting: Counter[tuple[str, ...]] = Counter()
    desired: Counter[tuple[str, ...]] = Counter()
    for copy in node.copies:
        # Two revisions of a Checkpoint may lie here at once.
        labels = tuple(copy.checkpoint_key)
        waiting[labels] += len(node.pool.of(copy.key))
        desired[labels] += copy.spec.pool.warm
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
