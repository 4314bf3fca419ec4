"""All Kopf registrations of the agent. Thin: take the object in, and have it looked at.

Both kinds are indexed as well: Kopf calls no event handler before all indexed kinds are listed, so
an agent that was just started does not start a demo cold for want of a copy that it has not yet
been told of. The index functions fill the views until then.
"""

from __future__ import annotations

from typing import Any

import kopf

from tryitnow.agent.node import Node
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import GROUP, VERSION
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.kubernetes.watching import ingest
from tryitnow.workqueue import WorkQueue


def register(
    registry: kopf.OperatorRegistry,
    node: Node,
    instances: WorkQueue,
    copies: WorkQueue,
    pools: WorkQueue,
    slots: WorkQueue,
) -> None:
    """Watch this node's objects only: the API server filters by ``selectableFields``."""

    @kopf.on.startup(registry=registry)
    async def only_mine(settings: kopf.OperatorSettings, **_: Any) -> None:
        mine = settings.watching.field_selectors
        mine[GROUP, VERSION, DemoInstance.plural] = f"status.nodeName={node.name}"
        mine[GROUP, VERSION, NodeCheckpoint.plural] = f"spec.nodeName={node.name}"

    @kopf.index(GROUP, VERSION, DemoInstance.plural, registry=registry)
    async def known_instances(body: kopf.Body, **_: Any) -> None:
        if not node.listed:
            node.instances.ingest(dict(body))

    @kopf.index(GROUP, VERSION, NodeCheckpoint.plural, registry=registry)
    async def known_copies(body: kopf.Body, **_: Any) -> None:
        if not node.listed:
            node.copies.ingest(dict(body))

    @kopf.on.event(GROUP, VERSION, DemoInstance.plural, registry=registry)
    async def demoinstance(event: kopf.RawEvent, **_: Any) -> None:
        node.listed = True
        ingest(event, node.instances, instances)

    @kopf.on.event(GROUP, VERSION, NodeCheckpoint.plural, registry=registry)
    async def nodecheckpoint(event: kopf.RawEvent, **_: Any) -> None:
        node.listed = True
        key = NodeCheckpoint.key_of(event["object"]["metadata"])
        before = node.copies.get(key)
        ingest(event, node.copies, copies)
        after = node.copies.get(key)
        if before is not None and not before.is_deleting and (after is None or after.is_deleting):
            # Nothing is thawed ahead of time any more from what is being removed.
            pools.interrupt(key)
            slots.interrupt(key)
            return
        changed = before is None or after is None or _serves(before) != _serves(after)
        # Most events are of what the pool itself reported.
        if changed or key not in node.pool.adopted:
            pools.add(key)
            slots.add(key)


def _serves(copy: NodeCheckpoint) -> tuple[object, ...]:
    """What is made ahead of time depends on this."""
    return copy.is_prepared, copy.spec.pool
