"""``tryitnow agent``: one per node, privileged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, NoReturn

from tryitnow.agent.approvals import Approvals
from tryitnow.agent.checkpoints.registry import CheckpointRegistry
from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.demos.crashes import Crashes
from tryitnow.agent.demos.egress import TICK_SECONDS as EGRESS_SECONDS
from tryitnow.agent.demos.egress import EgressWatch
from tryitnow.agent.demos.ends import read_boot_id
from tryitnow.agent.demos.network import NetworkRepair
from tryitnow.agent.demos.reconcile import reconcile_demo
from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.demos.watch import TICK_SECONDS, Watch
from tryitnow.agent.handlers import register
from tryitnow.agent.health import LastHealth
from tryitnow.agent.mail.server import HOST as MAIL_HOST
from tryitnow.agent.mail.server import MailServer
from tryitnow.agent.node import Node
from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.revisions import RevisionError, Revisions
from tryitnow.agent.sandbox.bounds import Bounds
from tryitnow.agent.sandbox.containers import Containers
from tryitnow.agent.sandbox.firewall import Firewall
from tryitnow.agent.sandbox.hooks import HookRunner
from tryitnow.agent.sandbox.leftovers import Conmons
from tryitnow.agent.sandbox.lifecycle import Sandboxes
from tryitnow.agent.sandbox.names import PREFIX, Role, parse
from tryitnow.agent.sandbox.namespaces import Hosts, network_of
from tryitnow.agent.sandbox.nearby import Nearby
from tryitnow.agent.sandbox.nftables import Nftables
from tryitnow.agent.sandbox.outbound import Outbound
from tryitnow.agent.sandbox.probe import Prober, open_session
from tryitnow.agent.sandbox.resolver import Resolver, dns_lookup
from tryitnow.agent.storage.archives import ArchiveStore
from tryitnow.agent.storage.files import free_bytes
from tryitnow.agent.storage.generations import GenerationStore
from tryitnow.agent.storage.guard import StorageGuard
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.agent.storage.ports import PortRange, nobody_listens
from tryitnow.agent.storage.trash import Trash
from tryitnow.agent.storage.volumes import VolumeStore
from tryitnow.agent.storage.wipe import Remover
from tryitnow.agent.suspects import AllSuspects
from tryitnow.agent.transfer.certificate import TURN_EVERY_SECONDS, Certificates, make_certificate
from tryitnow.agent.transfer.client import Fetcher
from tryitnow.agent.transfer.server import TransferServer
from tryitnow.agent.turns import PrioritySemaphore, ShortTurns
from tryitnow.agent.upkeep.garbage import EVERY_SECONDS, collect
from tryitnow.agent.upkeep.heartbeat import Reporter, examine_node
from tryitnow.agent.upkeep.memory import available_memory_bytes, give_large_blocks_back
from tryitnow.agent.upkeep.metrics import gauges
from tryitnow.agent.upkeep.shutdown import end_with_node
from tryitnow.agent.upkeep.watch import FILES_EVERY_SECONDS, PODMAN_EVERY_SECONDS, NodeWatch
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.limits import DISK_FULL, MEMORY_EXHAUSTED
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import happens, run_periodically
from tryitnow.kubernetes.client import KubernetesApi, connect
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.kubernetes.store import Store
from tryitnow.kubernetes.watching import new_registry, watch
from tryitnow.metrics.endpoint import serving
from tryitnow.metrics.family import Program
from tryitnow.metrics.instruments import Metrics
from tryitnow.podman.client import Podman
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError
from tryitnow.settings import AgentSettings
from tryitnow.workqueue import WorkQueue

logger = logging.getLogger(__name__)

_EXPECTED = (KubernetesError, PodmanError, PodmanUnreachableError, RevisionError, OSError)

FIRST_AGAIN_SECONDS = 1.0
"""Between two tries of the first look, which readiness waits for."""

RESTARTS_AT_ONCE = 4
RESTART_TURN_SECONDS = 30.0
"""Demos that are started again at once, after a reboot: as many as keep the cores busy while each
waits for its database. One that takes longer lets the next begin."""

THREADS = 64
"""More than all builds, fetches and unpackings have at once (``checkpoints.tools.AT_ONCE``). A
thread that waits for the disk costs no core."""

DRAIN = timedelta(seconds=12)
"""For what is at work when the agent is asked to stop: many restores long. The agent's Pod has 30 s
(terminationGracePeriodSeconds), of which a node that goes down leaves 8 s to its demos."""

PODMAN_ANSWERED = "Podman's containers"
LISTED = "the first list of this node's objects"
"""What ``/readyz`` waits for."""

FIRST_LOOK_SECONDS = 10.0
"""How long demos and the first report wait for the first look, after which more is known of the
node than that nothing is known. An API server that answers too slowly must not hold up all else."""


@contextlib.asynccontextmanager
async def open_node(settings: AgentSettings) -> AsyncIterator[Node]:
    """Connect to everything that the agent works with, and put it together."""
    metrics = Metrics(Program.AGENT)
    podman = Podman(settings.podman, metrics)
    try:
        async with connect("agent", metrics) as kubernetes, open_session() as http:
            nftables = Nftables()
            node = await asyncio.to_thread(
                build_node,
                settings,
                kubernetes,
                podman,
                Prober(settings, http),
                Firewall(nftables),
                Hosts(),
                Conmons(),
                Outbound(
                    settings.network,
                    Resolver(dns_lookup(settings.network.dns_servers)),
                    Nearby(kubernetes.server_host),
                    Hosts(),
                    nftables,
                ),
                metrics,
            )
            yield node
    finally:
        await asyncio.to_thread(podman.close)


def build_node(
    settings: AgentSettings,
    kubernetes: KubernetesApi,
    podman: Podman,
    prober: Prober,
    firewall: Firewall,
    hosts: Hosts,
    conmons: Conmons,
    outbound: Outbound,
    metrics: Metrics,
    clock: Callable[[], float] = time.monotonic,
) -> Node:
    """Put the node's tools together, and open its directories. Blocking.

    ``clock`` counts seconds, and is never set back.
    """
    remover = Remover(wipe=settings.wipe)
    archives = ArchiveStore(settings.checkpoint_path, remover)
    generations = GenerationStore(settings.data_path, remover)
    volumes = VolumeStore(settings.volumes_path)
    trash = Trash(settings.trash_path, remover)
    for store in (archives, generations, volumes, trash):
        store.open()
    disk = Ledger(
        DISK_FULL,
        "disk",
        lambda: free_bytes(settings.checkpoint_path),
        settings.disk_reserve_bytes,
    )
    memory = Ledger(
        MEMORY_EXHAUSTED, "memory", available_memory_bytes, settings.memory_reserve_bytes
    )
    demos: Store[DemoInstance] = Store(DemoInstance)

    def is_free(port: int) -> bool:
        # A demo that has no sandbox at the moment comes back at the same URL.
        held = (each.host_port for demo in demos for each in demo.status.ports)
        return port not in held and nobody_listens(port)

    ports = PortRange(settings.first_port, settings.last_port, is_free)
    mail = MailServer(
        settings.volumes_path, network_of, lambda: make_certificate(MAIL_HOST).context
    )
    sandboxes = Sandboxes(podman, volumes, ports, firewall, outbound, mail)
    health = LastHealth()
    start = StartTools(
        kubernetes=kubernetes,
        account=settings.agent_account,
        podman=podman,
        volumes=volumes,
        sandboxes=sandboxes,
        containers=Containers(
            podman, volumes, health, prober, hosts, Bounds(settings.containers, health)
        ),
        prober=prober,
        hooks=HookRunner(podman, volumes),
        health=health,
        turns=PrioritySemaphore(max(2, os.cpu_count() or 1)),
        restarts=ShortTurns(RESTARTS_AT_ONCE, RESTART_TURN_SECONDS),
        memory=memory,
        conmons=conmons,
        metrics=metrics,
    )
    guard = StorageGuard(kubernetes, podman, settings.node_name, settings.checkpoint_path.parent)
    node_checkpoints: Store[NodeCheckpoint] = Store(NodeCheckpoint)
    approvals = Approvals(settings.revisions_path)
    approvals.open()
    revisions = Revisions(kubernetes, approvals, settings.allowed_registries)

    def free_capacity(namespace: str) -> int:
        own = sum(demo.metadata.namespace == namespace for demo in demos)
        return min(
            settings.capacity - len(demos) - checkpoints.stock_size,
            settings.namespace_capacity - own - checkpoints.stock_size_of(namespace),
        )

    checkpoint_tools = CheckpointTools(
        settings=settings,
        start=start,
        revisions=revisions,
        archives=archives,
        generations=generations,
        disk=disk,
        fetcher=Fetcher(
            archives,
            disk,
            metrics,
            settings.transfer_token_file,
            kubernetes,
            settings.transfer_port,
        ),
        free_capacity=free_capacity,
        node_checkpoints=node_checkpoints,
        clock=clock,
    )
    checkpoints = CheckpointRegistry(settings, checkpoint_tools, lambda: guard.problem is None)

    async def examine_storage() -> str | None:
        containers = await podman.list_containers(PREFIX)
        ready = sum(demo.was_ready and not demo.is_deleting for demo in demos)
        guard.seen_containers(listed=len(containers), ready_demos=ready)
        await guard.examine(anything_at_stake=True)
        return guard.problem

    demo_tools = DemoTools(
        settings=settings,
        kubernetes=kubernetes,
        start=start,
        revisions=revisions,
        checkpoints=checkpoints,
        warm=checkpoint_tools,
        demos=demos,
        network=NetworkRepair(podman, clock=clock),
        storage_problem=lambda: guard.problem,
        examine_storage=examine_storage,
        boot_id=read_boot_id(),
        crashes=Crashes(clock),
    )
    return Node(
        settings=settings,
        kubernetes=kubernetes,
        podman=podman,
        archives=archives,
        generations=generations,
        volumes=volumes,
        trash=trash,
        ports=ports,
        disk=disk,
        memory=memory,
        sandboxes=sandboxes,
        health=health,
        guard=guard,
        checkpoints=checkpoints,
        demo_tools=demo_tools,
        metrics=metrics,
        suspects=AllSuspects.with_grace(settings.orphan_grace, settings.trash_retention, clock),
        demos=demos,
        node_checkpoints=node_checkpoints,
    )


async def run(settings: AgentSettings) -> None:
    """Run the agent until the process is asked to stop. Running demos are left alone."""
    give_large_blocks_back()
    # The default has six threads on two cores. Archives are read, unpacked and written in threads,
    # and a demo that is started must not wait for them to give its host a name.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "agent"))
    answered, listed = asyncio.Event(), asyncio.Event()

    def missing() -> list[str]:
        waited_for = ((answered, PODMAN_ANSWERED), (listed, LISTED))
        return [what for event, what in waited_for if not event.is_set()]

    async with (
        open_node(settings) as node,
        serving(
            node.metrics,
            missing,
            host=settings.node_address,
            port=settings.metrics_port,
            token_file=settings.metrics_token_file,
        ),
    ):
        node.metrics.read_from(lambda: gauges(node))
        demos = WorkQueue(
            "DemoInstance",
            lambda key: reconcile_demo(node.demo_tools, key),
            expected=_EXPECTED,
            concurrency=settings.max_instances,
            metrics=node.metrics,
        )
        node.queue_demo = demos.add
        registry = new_registry()
        register(registry, node, demos)
        await examine_node(node)
        await adopt_running(node)
        answered.set()
        certificates = Certificates(settings.node_address)
        server = TransferServer(settings, node.kubernetes, node.checkpoints.find_archive)
        await server.start(certificates)
        reporter = Reporter(node, server.url, certificates)
        demo_watch = Watch(node.demo_tools, demos.add)
        background = [asyncio.create_task(keep_collecting(node, listed))]
        logger.info("agent of %s: %s", node.name, node.health.current.criu_message or "CRIU works")
        try:
            await wait_for_first_look(listed)
            background += [
                asyncio.create_task(reporter.keep_reporting()),
                asyncio.create_task(reporter.keep_asking_podman()),
                asyncio.create_task(reporter.keep_examining()),
                asyncio.create_task(keep_turning(certificates)),
                *(asyncio.create_task(work) for work in periodic_work(node, demo_watch)),
            ]
            await watch(registry)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await reporter.report_stopping()
            await demo_watch.stop()
            await drain(node, demos)
            node.sandboxes.mail.close()
            await server.stop()
            await end_with_node()


async def drain(node: Node, demos: WorkQueue) -> None:
    """Begin nothing more on the node, and let the starts and deletions that are at work finish.

    Builds and fetches, which take minutes, end at once. Warm sandboxes wait for the next agent.
    """
    await asyncio.gather(demos.drain(DRAIN), node.checkpoints.stop())


async def adopt_running(node: Node) -> None:
    """Learn which ports are taken before any is given out; waits for Podman as long as it takes."""
    while True:
        try:
            found = await node.podman.list_containers(PREFIX)
        except (PodmanError, PodmanUnreachableError) as error:
            logger.warning("waiting for Podman: %s", error)
            await asyncio.sleep(1)
        else:
            # All containers of a pod show its ports: they are its main container's. What lies in
            # the trash does not run, and has none.
            node.sandboxes.adopt(state.name for state in found)
            mains = [(parse(state.name), state) for state in found]
            node.ports.adopt(
                state for name, state in mains if name is not None and name.role is not Role.TRASH
            )
            return


async def keep_collecting(node: Node, listed: asyncio.Event) -> None:
    """Compare the node with the cluster for ever; say when it was done for the first time."""

    async def resync() -> None:
        await collect(node)
        listed.set()

    await run_periodically(
        "compare the node with the cluster",
        resync,
        # A cluster that has just got our kinds does not list them yet: the first look is not put
        # off for as long as the later ones.
        pause_seconds=lambda: EVERY_SECONDS if listed.is_set() else FIRST_AGAIN_SECONDS,
        expected=_EXPECTED,
    )


async def keep_turning(certificates: Certificates) -> NoReturn:
    """Replace the certificate of the transfer server for ever."""

    async def turn() -> None:
        await asyncio.to_thread(certificates.turn)

    await run_periodically(
        "replace the certificate",
        turn,
        pause_seconds=lambda: TURN_EVERY_SECONDS,
        expected=(OSError,),
    )


async def wait_for_first_look(listed: asyncio.Event) -> None:
    """Wait until the node was compared with the cluster once, but not for ever."""
    if not await happens(listed, within_seconds=FIRST_LOOK_SECONDS):
        logger.warning("going on though the node was not compared with the cluster yet")


def periodic_work(node: Node, demo_watch: Watch) -> list[Coroutine[Any, Any, NoReturn]]:
    """Return what is done again and again."""
    watched = NodeWatch(node)
    egress = EgressWatch(node.demo_tools, lambda key: node.queue_demo(key))
    return [
        run_periodically(
            "keep up what demos may reach",
            egress.tick,
            pause_seconds=lambda: EGRESS_SECONDS,
            expected=_EXPECTED,
        ),
        run_periodically(
            "probe the demos",
            demo_watch.tick,
            pause_seconds=lambda: TICK_SECONDS,
            expected=_EXPECTED,
        ),
        run_periodically(
            "check the containers",
            watched.check_containers,
            pause_seconds=lambda: PODMAN_EVERY_SECONDS,
            expected=_EXPECTED,
        ),
        run_periodically(
            "check the archives",
            watched.check_files,
            pause_seconds=lambda: FILES_EVERY_SECONDS,
            expected=_EXPECTED,
        ),
        run_periodically(
            "check Podman's network",
            watched.check_network,
            pause_seconds=lambda: PODMAN_EVERY_SECONDS,
            expected=_EXPECTED,
        ),
    ]
