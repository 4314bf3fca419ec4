"""``tryitnow controller``: unprivileged. One per cluster acts; its replicas wait for its Lease."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal

from tryitnow.api.meta import Key
from tryitnow.background import run_periodically
from tryitnow.controller.checkpoint import reconcile_checkpoint
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.demoinstance import reconcile_instance
from tryitnow.controller.gauges import gauges
from tryitnow.controller.handlers import register
from tryitnow.controller.node_lifecycle import release_lost_nodes
from tryitnow.controller.resync import resync
from tryitnow.kubernetes.client import KubernetesApi, connect
from tryitnow.kubernetes.election import LeaderElection, LeadershipLostError
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.kubernetes.lease import CONTROLLER_LEASE
from tryitnow.kubernetes.watching import new_registry, watch
from tryitnow.metrics.cluster import CLOCK_CERTAIN
from tryitnow.metrics.endpoint import serving
from tryitnow.metrics.instruments import Reading
from tryitnow.metrics.program import LEADER
from tryitnow.settings import ControllerSettings
from tryitnow.workqueue import WorkQueue

logger = logging.getLogger(__name__)

LOST_NODES_INTERVAL_SECONDS = 10.0
RESYNC_EVERY_ROUNDS = 6
"""A watch that broke off may have missed a deletion; a fresh list each minute makes up for it."""


LEASE = "the lease of the controller that leads"
LISTED = "the first list of all objects"
"""What ``/readyz`` waits for. One that stands by beside a leader is ready: a rolling update goes on
when it is there, and only then asks the leader to stop."""


async def run(settings: ControllerSettings) -> None:
    """Run the controller until the process is asked to stop."""
    cluster = Cluster(
        tolerations=settings.agent_tolerations,
        builder_selector=settings.builder_selector,
        transfer_port=settings.transfer_port,
        end_lost_after=settings.end_lost_after,
    )
    metrics = cluster.metrics
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # While the controller leads, Kopf listens to them in our place.
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connect("controller", metrics) as kubernetes:
        metrics.read_from(lambda: gauges(cluster, kubernetes.clock.now()))
        lease = kubernetes.lease(Key(settings.namespace, CONTROLLER_LEASE))
        election = LeaderElection(lease, settings.identity)
        metrics.read_from(lambda: [Reading(LEADER, election.is_leader, ())])
        metrics.read_from(lambda: [Reading(CLOCK_CERTAIN, kubernetes.clock.is_certain)])
        async with serving(
            metrics,
            lambda: _missing(election, cluster),
            host=None,
            port=settings.metrics_port,
            token_file=settings.metrics_token_file,
        ):
            logger.info("controller started; it waits for its lease")
            try:
                await election.lead(lambda: _act(kubernetes, cluster, stop), stop)
            except LeadershipLostError as error:
                logger.critical("%s", error)
                # Not one step further: what was begun could reach the API server after the next
                # leader has decided otherwise.
                os._exit(1)


def _missing(election: LeaderElection, cluster: Cluster) -> tuple[str, ...]:
    if not election.knows_leader:
        return (LEASE,)
    return (LISTED,) if election.is_leader and not cluster.listed else ()


async def _act(kubernetes: KubernetesApi, cluster: Cluster, stop: asyncio.Event) -> None:
    """Watch and decide; only the leader does so."""
    checkpoints = WorkQueue(
        "Checkpoint",
        lambda key: reconcile_checkpoint(kubernetes, cluster, key),
        expected=(KubernetesError,),
        metrics=cluster.metrics,
    )
    instances = WorkQueue(
        "DemoInstance",
        lambda key: reconcile_instance(kubernetes, cluster, key),
        expected=(KubernetesError,),
        metrics=cluster.metrics,
    )
    registry = new_registry()
    register(registry, cluster, checkpoints, instances)
    keeping_up = asyncio.create_task(_keep_up(kubernetes, cluster, checkpoints, instances))
    try:
        await watch(registry, stop)
    finally:
        keeping_up.cancel()
        await asyncio.gather(keeping_up, return_exceptions=True)
        await checkpoints.close()
        await instances.close()


async def _keep_up(
    kubernetes: KubernetesApi, cluster: Cluster, checkpoints: WorkQueue, instances: WorkQueue
) -> None:
    """Notice changes without events: silent nodes, and changes that a broken watch missed."""
    rounds = itertools.count(1)

    async def step() -> None:
        if not cluster.listed:
            return  # a node whose agent is not known yet would count as lost
        if next(rounds) % RESYNC_EVERY_ROUNDS == 0:
            await resync(kubernetes, cluster, checkpoints, instances)
        await release_lost_nodes(kubernetes, cluster)

    await run_periodically(
        "handle lost nodes",
        step,
        pause_seconds=lambda: LOST_NODES_INTERVAL_SECONDS,
        expected=(KubernetesError,),
        at_once=False,
    )
