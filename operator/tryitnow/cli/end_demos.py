"""``tryitnow end-demos``: what `helm uninstall` runs first, while the agents still work.

Demos and NodeCheckpoints carry a finalizer that their node's agent takes off when it has removed
what it held, CheckpointRevisions one that the controller takes off. Without them these objects, and
their namespaces, could never be deleted.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import timedelta

import click

from tryitnow.api.checkpointrevision import REVISION_FINALIZER, CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import NODE_FINALIZER, Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.cli.durations import DURATION
from tryitnow.cli.failures import translate_errors
from tryitnow.cli.output import emit
from tryitnow.cli.programs import log_to_stderr
from tryitnow.kubernetes.client import KubernetesApi, connect
from tryitnow.kubernetes.election import LeaderElection
from tryitnow.kubernetes.errors import ConflictError
from tryitnow.kubernetes.lease import CONTROLLER_LEASE
from tryitnow.kubernetes.objects import AnyObject, model_of
from tryitnow.settings import ControllerSettings, controller_settings

logger = logging.getLogger(__name__)

CONTROLLER = "tryitnow-controller"
"""Name of the controller's Deployment."""

POLL_SECONDS = 1.0
GIVE_UP_AFTER_SECONDS = 30.0
"""After the finalizers of lost nodes were taken off; the garbage collector needs a moment."""


@click.command
@click.option(
    "--timeout",
    type=DURATION,
    default="2m",
    show_default=True,
    help="How long the nodes' agents get for it; then what is left is let go without them.",
)
def end_demos(*, timeout: timedelta) -> None:
    """Stop the controller, end all demos, and drop all NodeCheckpoints and revisions.

    Exit status: 0 nothing is left, 1 something is.
    """
    log_to_stderr()
    with translate_errors():
        remaining = asyncio.run(_end(controller_settings(), timeout))
    for resource in remaining:
        kind = model_of(resource).kind_name
        emit(f"{kind} {resource.key} is still there: see its finalizers")
    sys.exit(1 if remaining else 0)


async def _end(settings: ControllerSettings, timeout: timedelta) -> list[AnyObject]:
    remaining: list[AnyObject] = []
    async with connect("uninstall") as kubernetes:
        # The controller goes first: it would create the NodeCheckpoints again.
        await kubernetes.delete_deployment(Key(settings.namespace, CONTROLLER))
        lease = kubernetes.lease(Key(settings.namespace, CONTROLLER_LEASE))

        async def work() -> None:
            remaining.extend(await end_all(kubernetes, timeout))

        # As the leader: then none of its replicas acts any more.
        await LeaderElection(lease, settings.identity).lead(work, asyncio.Event())
    return remaining


async def end_all(kubernetes: KubernetesApi, timeout: timedelta) -> list[AnyObject]:
    """Delete all that we made, and wait for the agents; returns what is left in the end.

    What is there after the timeout belongs to nodes that do not answer, and is let go without them.
    """
    clock = asyncio.get_running_loop().time
    started = clock()
    while remaining := await _all(kubernetes):
        waited = clock() - started
        if waited > timeout.total_seconds() + GIVE_UP_AFTER_SECONDS:
            break
        others = [each for each in remaining if model_of(each) is not CheckpointRevision]
        for resource in remaining:
            if not resource.is_deleting:
                await kubernetes.delete(resource)
            elif model_of(resource) is CheckpointRevision:
                # The beforeDelete hooks of the demos stand in there.
                if not others:
                    await _release(kubernetes, resource, REVISION_FINALIZER)
            elif waited > timeout.total_seconds():
                await _let_go(kubernetes, resource)
        await asyncio.sleep(POLL_SECONDS)
    return remaining


async def _all(kubernetes: KubernetesApi) -> list[AnyObject]:
    demos = await kubernetes.list_all(DemoInstance)
    node_checkpoints = await kubernetes.list_all(NodeCheckpoint)
    revisions = await kubernetes.list_all(CheckpointRevision)
    # One that does not fit our model is deleted and let go by its metadata.
    return [
        *demos.items,
        *node_checkpoints.items,
        *revisions.items,
        *demos.unreadable_objects,
        *node_checkpoints.unreadable_objects,
        *revisions.unreadable_objects,
    ]


async def _let_go(kubernetes: KubernetesApi, resource: AnyObject) -> None:
    logger.warning("%s %s: its node does not answer", model_of(resource).kind_name, resource.key)
    await _release(kubernetes, resource, NODE_FINALIZER)


async def _release(kubernetes: KubernetesApi, resource: AnyObject, finalizer: str) -> None:
    try:
        await kubernetes.remove_finalizer(resource, finalizer)
    except ConflictError:
        return  # changed meanwhile: the next look sees how
