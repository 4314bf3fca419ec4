"""All Kopf registrations of the agent. Thin: take the object in, and have it looked at.

Both kinds are indexed as well: Kopf calls no event handler before all indexed kinds are listed, so
an agent that was just started does not start a demo cold because it has not been told yet of the
archive that it has. The index functions fill the stores until then.
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


def register(registry: kopf.OperatorRegistry, node: Node, demos: WorkQueue) -> None:
    """Watch this node's objects only: the API server filters by ``selectableFields``."""

    @kopf.on.startup(registry=registry)
    async def only_mine(settings: kopf.OperatorSettings, **_: Any) -> None:
        mine = settings.watching.field_selectors
        mine[GROUP, VERSION, DemoInstance.plural] = f"status.nodeName={node.name}"
        mine[GROUP, VERSION, NodeCheckpoint.plural] = f"spec.nodeName={node.name}"

    @kopf.index(GROUP, VERSION, DemoInstance.plural, registry=registry)
    async def known_demos(body: kopf.Body, **_: Any) -> None:
        if not node.listed:
            node.demos.ingest(dict(body))

    @kopf.index(GROUP, VERSION, NodeCheckpoint.plural, registry=registry)
    async def known_node_checkpoints(body: kopf.Body, **_: Any) -> None:
        if not node.listed:
            found = node.node_checkpoints.ingest(dict(body))
            if found is not None:
                node.checkpoints.seen(found)

    @kopf.on.event(GROUP, VERSION, DemoInstance.plural, registry=registry)
    async def demoinstance(event: kopf.RawEvent, **_: Any) -> None:
        node.listed = True
        ingest(event, node.demos, demos)

    @kopf.on.event(GROUP, VERSION, NodeCheckpoint.plural, registry=registry)
    async def nodecheckpoint(event: kopf.RawEvent, **_: Any) -> None:
        node.listed = True
        key = NodeCheckpoint.key_of(event["object"]["metadata"])
        before = node.node_checkpoints.get(key)
        ingest(event, node.node_checkpoints, None)
        after = node.node_checkpoints.get(key)
        if after is not None:
            node.checkpoints.seen(after)
        elif before is not None:
            node.checkpoints.gone(before)
