"""Looking at Podman, the disk and the network: what happened there without anybody saying so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.names import PREFIX, demo_name, parse_infra
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import Key
from tryitnow.podman.client import ContainerState

PODMAN_EVERY_SECONDS = 3.0
"""Between two looks at Podman: how late the end of a container is noticed at most."""

FILES_EVERY_SECONDS = 3.0
"""Between two looks at whether an archive was touched: how late damage by hand is noticed."""

_RUNS = frozenset({DemoInstancePhase.READY, DemoInstancePhase.NOT_ANSWERING})


class NodeWatch:
    """The looks of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def check_containers(self) -> None:
        """Find demos of which a container ended, and what waits and is gone."""
        # Before the list, and without those that are being made: the list has them as they were
        # in the middle of it, or not at all.
        waited = self._node.checkpoints.waiting_names
        containers = await self._node.podman.list_containers(PREFIX)
        for key in ended(self._node.demos, containers):
            self._node.queue_demo(key)
        lost_pods = {c.pod for c in containers if parse_infra(c.name) and not c.alive}
        whole = [c for c in containers if c.pod not in lost_pods]
        ended_ones = waited - {c.name for c in whole if c.alive}
        gone = waited - {c.name for c in whole}
        for actor in self._node.checkpoints:
            actor.resync(ended=ended_ones, gone=gone)

    async def check_files(self) -> None:
        """Find archives that were touched."""
        for actor in self._node.checkpoints:
            if await asyncio.to_thread(actor.is_touched):
                actor.archive_changed()

    async def check_network(self) -> None:
        """Find that the rules of all published ports are lost."""
        if any(demo.status.phase in _RUNS for demo in self._node.demos):
            await self._node.demo_tools.network.resync()


def ended(demos: Iterable[DemoInstance], containers: list[ContainerState]) -> list[Key]:
    """Return the demos of which a container ended; one that somebody paused has not."""
    broken = {c.pod for c in containers if c.pod and not c.alive}
    alive = {c.name for c in containers if c.alive and c.pod not in broken}
    return [
        demo.key
        for demo in demos
        if demo.status.phase in _RUNS and str(demo_name(demo)) not in alive
    ]
