"""``tryitnow agent``: one per node, privileged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from tryitnow.agent.archive import ArchiveStore
from tryitnow.agent.certificate import make_certificate
from tryitnow.agent.collect import EVERY_SECONDS, PODMAN_EVERY_SECONDS, collect, ended
from tryitnow.agent.demoinstance import reconcile_instance
from tryitnow.agent.handlers import register
from tryitnow.agent.memory import give_large_blocks_back
from tryitnow.agent.names import PREFIX, parse
from tryitnow.agent.node import Node
from tryitnow.agent.nodecheckpoint import reconcile_copy
from tryitnow.agent.ports import PortRange
from tryitnow.agent.prepared import DataStore
from tryitnow.agent.probe import open_session
from tryitnow.agent.report import Reporter, examine_node
from tryitnow.agent.serve import TransferServer
from tryitnow.agent.slot import reconcile_slots
from tryitnow.agent.states import states
from tryitnow.agent.upkeep import FILES_EVERY_SECONDS, touched
from tryitnow.agent.volumes import VolumeStore
from tryitnow.agent.warm import SETTLED, reconcile_pool
from tryitnow.background import keep_doing
from tryitnow.kubernetes.client import connect
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.kubernetes.watching import new_registry, watch
from tryitnow.metrics.endpoint import serving
from tryitnow.metrics.family import Program
from tryitnow.metrics.instruments import Metrics
from tryitnow.podman.client import Podman
from tryitnow.podman.errors import PodmanCallError
from tryitnow.settings import AgentSettings
from tryitnow.workqueue import WorkQueue

logger = logging.getLogger(__name__)

_EXPECTED = (KubernetesError, PodmanCallError, OSError)


FIRST_AGAIN_SECONDS = 1.0
"""Between two tries of the first look, which readiness waits for."""

PODMAN_ANSWERED = "Podman's containers"
LISTED = "the first list of this node's objects"
"""What ``/readyz`` waits for."""


@contextlib.asynccontextmanager
async def open_node(settings: AgentSettings) -> AsyncIterator[Node]:
    """Connect to everything that the agent works with."""
    archives = ArchiveStore(settings.checkpoint_path)
    data = DataStore(settings.data_path)
    await asyncio.to_thread(archives.open)
    volumes = VolumeStore(settings.volumes_path)
    await asyncio.to_thread(data.open)
    await asyncio.to_thread(volumes.open)
    metrics = Metrics(Program.AGENT)
    podman = Podman(settings.podman, metrics)
    try:
        async with connect("agent", metrics) as kubernetes, open_session() as http:
            yield Node(
                settings=settings,
                kubernetes=kubernetes,
                podman=podman,
                archives=archives,
                data=data,
                volumes=volumes,
                ports=PortRange(settings.first_port, settings.last_port),
                http=http,
                metrics=metrics,
            )
    finally:
        await asyncio.to_thread(podman.close)


async def run(settings: AgentSettings) -> None:
    """Run the agent until the process is asked to stop. Running demos are left alone."""
    give_large_blocks_back()
    missing = [PODMAN_ANSWERED, LISTED]
    async with (
        open_node(settings) as node,
        serving(
            node.metrics,
            lambda: missing,
            host=settings.node_address,
            port=settings.metrics_port,
        ),
    ):
        node.metrics.read_from(lambda: states(node))
        instances = WorkQueue(
            "DemoInstance",
            lambda key: reconcile_instance(node, key),
            expected=_EXPECTED,
            concurrency=settings.max_instances,
            metrics=node.metrics,
        )
        copies = WorkQueue(
            "NodeCheckpoint",
            lambda key: reconcile_copy(node, key),
            expected=_EXPECTED,
            metrics=node.metrics,
        )
        pools = WorkQueue(
            "WarmPool",
            lambda key: reconcile_pool(node, key),
            expected=_EXPECTED,
            metrics=node.metrics,
        )
        node.pool.changed = lambda key: pools.add_later(key, SETTLED)
        slots = WorkQueue(
            "Slots",
            lambda key: reconcile_slots(node, key),
            expected=_EXPECTED,
            metrics=node.metrics,
        )
        node.slots.changed = lambda key: slots.add_later(key, SETTLED)
        registry = new_registry()
        register(registry, node, instances, copies, pools, slots)
        await examine_node(node)
        await _adopt_running(node)
        missing.remove(PODMAN_ANSWERED)
        certificate = make_certificate(settings.node_address)
        server = TransferServer(node)
        runner = await server.start(certificate)
        reporter = Reporter(node, server.url, certificate)
        background = [
            asyncio.create_task(reporter.keep_reporting()),
            asyncio.create_task(reporter.keep_asking_podman()),
            asyncio.create_task(reporter.keep_examining()),
            asyncio.create_task(_keep_collecting(node, instances, copies, missing)),
            asyncio.create_task(_keep_watching_podman(node, instances, pools)),
            asyncio.create_task(_keep_watching_files(node, copies)),
        ]
        logger.info("agent of %s: %s", node.name, node.health.criu_message or "CRIU works")
        try:
            await watch(registry)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await reporter.say_goodbye()
            await instances.close()
            await copies.close()
            await pools.close()
            await slots.close()
            await runner.cleanup()


async def _adopt_running(node: Node) -> None:
    """Learn which ports are taken before any is given out; waits for Podman as long as it takes."""
    while True:
        try:
            found = await node.podman.list_containers(PREFIX)
            # All containers of a pod show its ports: they are its main container's.
            node.ports.adopt(state for state in found if parse(state.name) is not None)
        except PodmanCallError as error:
            logger.warning("waiting for Podman: %s", error)
            await asyncio.sleep(1)
        else:
            return


async def _keep_collecting(
    node: Node, instances: WorkQueue, copies: WorkQueue, missing: list[str]
) -> None:
    async def look() -> None:
        await collect(node, instances, copies)
        if LISTED in missing:
            missing.remove(LISTED)

    await keep_doing(
        "compare the node with the cluster",
        look,
        # A cluster that has just got our kinds does not list them yet: the first look is not put
        # off for as long as the later ones.
        pause_seconds=lambda: FIRST_AGAIN_SECONDS if LISTED in missing else EVERY_SECONDS,
        expected=_EXPECTED,
    )


async def _keep_watching_podman(node: Node, instances: WorkQueue, pools: WorkQueue) -> None:
    async def look() -> None:
        containers = await node.podman.list_containers(PREFIX)
        for key in ended(node.instances, containers):
            instances.add(key)
        there = {c.name for c in containers if c.alive}
        for copy in node.copies:
            if any(str(warm.name) not in there for warm in node.pool.of(copy.key)):
                pools.add(copy.key)

    await keep_doing(
        "look at the containers",
        look,
        pause_seconds=lambda: PODMAN_EVERY_SECONDS,
        expected=(PodmanCallError,),
    )


async def _keep_watching_files(node: Node, copies: WorkQueue) -> None:
    async def look() -> None:
        for key in await asyncio.to_thread(touched, node):
            copies.add(key)

    await keep_doing(
        "look at the archives",
        look,
        pause_seconds=lambda: FILES_EVERY_SECONDS,
        expected=(OSError,),
    )
