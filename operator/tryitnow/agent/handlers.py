"""All Kopf registrations of the agent. Thin: take the object in, and have it looked at."""

from __future__ import annotations

from typing import Any

import kopf

from tryitnow.agent.node import Node
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import GROUP, VERSION
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.kubernetes.watching import take
from tryitnow.workqueue import WorkQueue


def register(
    registry: kopf.OperatorRegistry,
    node: Node,
    instances: WorkQueue,
    copies: WorkQueue,
    pools: WorkQueue,
) -> None:
    """Watch this node's objects only: the API server filters by ``selectableFields``."""

    @kopf.on.startup(registry=registry)
    async def only_mine(settings: kopf.OperatorSettings, **_: Any) -> None:
        mine = settings.watching.field_selectors
        mine[GROUP, VERSION, DemoInstance.plural] = f"status.nodeName={node.name}"
        mine[GROUP, VERSION, NodeCheckpoint.plural] = f"spec.nodeName={node.name}"

    @kopf.on.event(GROUP, VERSION, DemoInstance.plural, registry=registry)
    async def demoinstance(event: kopf.RawEvent, **_: Any) -> None:
        take(event, node.instances, instances)

    @kopf.on.event(GROUP, VERSION, NodeCheckpoint.plural, registry=registry)
    async def nodecheckpoint(event: kopf.RawEvent, **_: Any) -> None:
        take(event, node.copies, copies)
        pools.add(NodeCheckpoint.key_of(event["object"]["metadata"]))
