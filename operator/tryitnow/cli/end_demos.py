"""``tryitnow end-demos``: what `helm uninstall` runs first, while the agents still work.

Demos and copies carry a finalizer that their node's agent takes off when it has let go of what it
held. Without agents they, and their namespaces, could never be deleted.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key, Resource
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.kubernetes.client import KubernetesApi, connect
from tryitnow.kubernetes.election import LeaderElection
from tryitnow.kubernetes.errors import ConflictError
from tryitnow.kubernetes.lease import CONTROLLER_LEASE
from tryitnow.settings import ControllerSettings

logger = logging.getLogger(__name__)

CONTROLLER = "tryitnow-controller"
"""Name of the controller's Deployment."""

LOOK_EVERY_SECONDS = 1.0
GIVE_UP_AFTER_SECONDS = 30.0
"""After the finalizers of lost nodes were taken off; the garbage collector needs a moment."""


async def run(settings: ControllerSettings, timeout: timedelta) -> int:
    """End all demos, drop all copies; returns the exit status."""
    async with connect("uninstall") as kubernetes:
        # The controller goes first: it would have the copies made anew.
        await kubernetes.delete_deployment(Key(settings.namespace, CONTROLLER))
        lease = kubernetes.lease(Key(settings.namespace, CONTROLLER_LEASE))
        remaining: list[Resource] = []

        async def work() -> None:
            remaining.extend(await end_demos(kubernetes, timeout))

        # As the leader: then none of its replicas acts any more.
        await LeaderElection(lease, settings.identity).lead(work, asyncio.Event())
    for resource in remaining:
        print(f"{type(resource).kind_name} {resource.key} is still there: look at its finalizers")
    return 1 if remaining else 0


async def end_demos(kubernetes: KubernetesApi, timeout: timedelta) -> list[Resource]:
    """Delete all demos and copies, and wait for the agents; returns what is left in the end.

    What is there after the timeout belongs to nodes that do not answer, and is let go without them.
    """
    clock = asyncio.get_running_loop().time
    started = clock()
    while remaining := await _all(kubernetes):
        waited = clock() - started
        if waited > timeout.total_seconds() + GIVE_UP_AFTER_SECONDS:
            break
        for resource in remaining:
            if not resource.is_deleting:
                await kubernetes.delete(resource)
            elif waited > timeout.total_seconds():
                await _let_go(kubernetes, resource)
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    return remaining


async def _all(kubernetes: KubernetesApi) -> list[Resource]:
    demos = await kubernetes.list_all(DemoInstance)
    copies = await kubernetes.list_all(NodeCheckpoint)
    return [*demos.items, *copies.items]


async def _let_go(kubernetes: KubernetesApi, resource: Resource) -> None:
    logger.warning("%s %s: its node does not answer", type(resource).kind_name, resource.key)
    try:
        await kubernetes.remove_finalizer(resource)
    except ConflictError:
        return  # changed meanwhile: the next look sees how
