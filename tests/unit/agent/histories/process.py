"""The agent's process in a history: all of ``agent.main``, but for Kopf, doctor and its servers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import kopf

from tests.unit.agent.histories.cluster import WATCHED, Cluster
from tests.unit.agent.histories.life import Life, expect_alive
from tests.unit.agent.histories.podman import StrictPodman
from tests.unit.network import StrictFirewall, StrictHosts, StrictProber, StrictSession
from tests.unit.sandbox import FakeOutbound
from tryitnow.agent.demos.network import NetworkRepair
from tryitnow.agent.demos.reconcile import reconcile_demo
from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.demos.watch import Watch
from tryitnow.agent.handlers import register
from tryitnow.agent.health import Health
from tryitnow.agent.main import (
    adopt_running,
    build_node,
    keep_collecting,
    periodic_work,
    wait_for_first_look,
)
from tryitnow.agent.node import Node
from tryitnow.agent.revisions import RevisionError
from tryitnow.agent.sandbox.leftovers import Conmons
from tryitnow.agent.transfer.certificate import Certificates
from tryitnow.agent.upkeep.heartbeat import Reporter
from tryitnow.api.meta import Resource
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.metrics.family import Program
from tryitnow.metrics.instruments import Metrics
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError
from tryitnow.settings import AgentSettings
from tryitnow.workqueue import WorkQueue

_EXPECTED = (KubernetesError, PodmanError, PodmanUnreachableError, RevisionError, OSError)

Handler = Callable[..., Any]


class Process:
    """One process of the agent, from its start to its end."""

    def __init__(
        self,
        settings: AgentSettings,
        cluster: Cluster,
        podman: StrictPodman,
        conmons: Conmons,
        health: Callable[[], Health],
        chance: random.Random,
    ) -> None:
        self.life = Life()
        self._cluster = cluster
        self._podman = podman
        self._conmons = conmons
        self._health = health
        self._chance = chance
        self._settings = settings
        self._queue: WorkQueue | None = None
        self._watch: Watch | None = None
        self._background: list[asyncio.Task[Any]] = []
        self.node: Node | None = None
        """Once it was put together."""

        self._main = self.life.begin(self._run())

    @property
    def is_serving(self) -> bool:
        """Whether it has begun with all that it does."""
        return bool(self._background)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        network = self._podman.network
        session: Any = StrictSession(network, effect=expect_alive)
        self.node = node = build_node(
            self._settings,
            self._cluster,
            self._podman,
            StrictProber(self._settings, session),
            StrictFirewall(network, expect_alive),
            StrictHosts(network),
            self._conmons,
            FakeOutbound(),
            Metrics(Program.AGENT),
            loop.time,
        )
        node.demo_tools = _with_tables(node, network.tables, loop.time)
        self._queue = queue = WorkQueue(
            "DemoInstance",
            lambda key: reconcile_demo(node.demo_tools, key),
            expected=_EXPECTED,
            concurrency=self._settings.max_instances,
            metrics=node.metrics,
        )
        node.queue_demo = queue.add
        registry = kopf.OperatorRegistry()
        register(registry, node, queue)
        node.health.current = self._health()
        await adopt_running(node)
        listed = asyncio.Event()
        reporter = Reporter(node, "https://node-a.example:9443", _Certificates())
        self._watch = watch = Watch(node.demo_tools, queue.add, loop.time)
        self._background = [asyncio.create_task(keep_collecting(node, listed))]
        await wait_for_first_look(listed)
        work = [
            reporter.keep_reporting(),
            reporter.keep_asking_podman(),
            *periodic_work(node, watch),
        ]
        self._background += [asyncio.create_task(each) for each in work]
        await self._follow(registry)

    async def _follow(self, registry: kopf.OperatorRegistry) -> None:
        """Do what Kopf does: list all kinds, index them, and tell of each object and each change.

        The registries have no public names; each kind has one handler of either sort here.
        """
        index = _handlers(registry._indexing)
        notify = _handlers(registry._watching)
        followed = []
        for model in WATCHED:
            await self._reach()
            followed.append((model, *self._cluster.follow(model)))
        for model, _, there in followed:
            for event in there:
                await index[model.plural](body=event["object"])
        async with asyncio.TaskGroup() as tasks:
            for model, events, there in followed:
                tasks.create_task(self._notify(model, events, there, notify[model.plural]))

    async def _notify(
        self,
        model: type[Resource],
        events: asyncio.Queue[dict[str, Any] | None],
        there: list[dict[str, Any]],
        notify: Handler,
    ) -> None:
        while True:
            for event in there:
                await notify(event=event)
            while (happened := await events.get()) is not None:
                await self._reach()
                await notify(event=happened)
            await self._reach()
            events, there = self._cluster.follow(model)

    async def _reach(self) -> None:
        """Wait until the API server says something."""
        await asyncio.sleep(self._chance.random() * 0.05 + self._cluster.seconds)
        while self._cluster.is_down:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(1)

    async def kill(self) -> None:
        """Kill it."""
        await self.life.kill()

    async def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        await asyncio.wait({self.life.begin(self._stop())})

    async def _stop(self) -> None:
        for task in (self._main, *self._background):
            task.cancel()
        await asyncio.gather(self._main, *self._background, return_exceptions=True)
        if self._watch is not None:
            await self._watch.stop()
        if self._queue is not None:
            await self._queue.close()
        if self.node is not None:
            await self.node.checkpoints.stop()


def _with_tables(node: Node, tables: Callable[[], str], clock: Callable[[], float]) -> DemoTools:
    async def listed() -> str:
        return tables()

    return replace(node.demo_tools, network=NetworkRepair(node.podman, listed, clock))


def _handlers(found: Any) -> dict[str, Handler]:
    handlers = {}
    for each in found.get_all_handlers():
        handlers[each.selector.any_name] = each.fn
    return handlers


class _Certificates(Certificates):
    """Nobody fetches anything here."""

    def __init__(self) -> None:
        pass

    @property
    def pem(self) -> str:
        return "certificate of node-a"

    def reported(self, pem: str) -> None:
        pass
