"""Whatever happens at the same time, in whatever order: some things hold, and all gets well again.

Each seed is one history of a node. One that failed stays in the list.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tests.unit.agent.checkpoints.shop import Shop, until
from tests.unit.fakes import FakePodman
from tryitnow.agent.sandbox.names import Role
from tryitnow.api.checkpoint import Pool
from tryitnow.api.nodecheckpoint import NodeCheckpointPhase
from tryitnow.podman.errors import CRIUError, PodmanBusyError, PodmanError, PodmanUnreachableError

STEPS = 25
SEEDS = [*range(30), 348]
"""The last: a restore failed while the agent, at its second try, took over what lies here."""

CALLS = (
    "build image", "create pod", "create stopped", "has_image", "inspect", "inspect pod", "list",
    "pause", "remove pod", "restore prepared",
)  # fmt: skip
ERRORS = (
    PodmanUnreachableError("Podman does not answer"),
    PodmanBusyError("Podman is busy"),
    PodmanError("500: database is locked"),
    CRIUError("CRIU refused", "Error: a log"),
    OSError(28, "No space left on device"),
)


class History:
    """What happens to a node, by chance."""

    def __init__(self, shop: Shop, podman: FakePodman, seed: int) -> None:
        self.shop, self.podman = shop, podman
        self.chance = random.Random(seed)
        self.claimed: list[str] = []

    async def step(self) -> None:
        """Have something happen, and let it go on for a moment."""
        acts: tuple[Callable[[], object], ...] = (
            self.call_fails, self.call_fails, self.calls_are_slow, self.podman_is_well,
            self.podman_is_well, self.claim, self.claim, self.restore_fails, self.prune,
            self.pool_changes, self.software_changes, self.criu, self.storage, self.touch,
            self.time_passes, self.time_passes, self.resync,
        )  # fmt: skip
        happening = self.chance.choice(acts)()
        if isinstance(happening, Awaitable):
            await happening
        if self.chance.random() < 0.08:
            await self.shop.starts_again()
        await asyncio.sleep(self.chance.random() * 0.02)

    def call_fails(self) -> None:
        self.podman.failures[self.chance.choice(CALLS)] = self.chance.choice(ERRORS)

    def calls_are_slow(self) -> None:
        self.podman.delay[self.chance.choice(CALLS)] = self.chance.random() * 0.05

    def podman_is_well(self) -> None:
        self.podman.failures.clear()
        self.podman.delay.clear()

    async def claim(self) -> None:
        """A demo takes a warm sandbox: the rename is the claim."""
        warm = self.shop.actor.take_warm()
        if warm is not None:
            demo = replace(warm.name, role=Role.DEMO)
            await self.shop.node.sandboxes.rename(warm.name, demo)
            self.claimed.append(str(demo))

    def restore_fails(self) -> None:
        generation = self.shop.actor.generation
        if generation is not None:
            self.shop.actor.restore_failed(generation, self.chance.choice(ERRORS))

    def prune(self) -> None:
        self.podman.images.clear()
        self.shop.actor.archive_changed()

    def pool_changes(self) -> None:
        self.shop.change(pool=Pool(warm=self.chance.randrange(4)))

    def software_changes(self) -> None:
        self.shop.has_software(kernel=f"6.{self.chance.randrange(20)}")

    def criu(self) -> None:
        self.shop.has_criu(available=self.chance.random() < 0.6)

    def storage(self) -> None:
        self.shop.storage_ok = self.chance.random() < 0.7
        self.shop.registry.turn_all()

    def touch(self) -> None:
        self.shop.actor.archive_changed()

    def time_passes(self) -> None:
        self.shop.clock.forward(minutes=self.chance.randrange(20))
        self.shop.actor.turn()

    def resync(self) -> None:
        names = set(self.podman.containers())
        self.shop.actor.resync(ended=set(), gone=self.shop.actor.stock_names - names)

    def check(self) -> None:
        """See that what always holds, holds."""
        actor, shop = self.shop.actor, self.shop
        assert len(set(self.claimed)) == len(self.claimed), "one sandbox went to two demos"
        generation = actor.generation
        if generation is not None:
            assert generation.directory.is_dir(), "what can be restored is not there"
        if actor.is_ready:
            assert shop.storage_ok
            assert actor.state.archive is not None
            assert shop.path.exists(), "nothing removed the archive"
        assert shop.node.memory.reserved_bytes >= 0
        assert shop.node.disk.reserved_bytes >= 0

    async def gets_well(self) -> None:
        """Have the node get well; it must be as if nothing had happened."""
        shop = self.shop
        self.podman_is_well()
        shop.storage_ok = True
        shop.has_criu(available=True)
        shop.change(pool=Pool(warm=1))

        def calm() -> bool:
            actor = shop.actor
            shop.clock.forward(minutes=11)
            actor.archive_changed()
            actor.turn()
            return actor.is_ready and actor.warm_ready == actor.stock_size == 1

        async with asyncio.timeout(60):
            while not calm():  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.05)
        await shop.until_phase(NodeCheckpointPhase.READY)
        assert shop.asked("checkpoint") == [], "the archive was never built anew"

    async def ends(self) -> None:
        """Have all of it deleted: nothing is left."""
        shop = self.shop
        gone = shop.actor.resource
        await shop.delete()
        await until(lambda: not shop.kubernetes.has(gone))
        left = [name for name in self.podman.containers() if name not in self.claimed]
        unknown = shop.sandboxes(Role.VERIFY, Role.BUILD, Role.PREPARE)
        assert unknown == []
        # What could not be removed in time is the collector's, which asks for these names.
        assert not shop.registry.stock_names & set(left)
        assert shop.node.memory.reserved_bytes == 0
        assert shop.node.disk.reserved_bytes == 0
        assert list(shop.tools.generations.directory.iterdir()) == []
        assert list(shop.tools.archives.directory.iterdir()) == []


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_node_gets_well_again(shop: Shop, podman: FakePodman, seed: int) -> None:
    shop.order(warm=2)
    await shop.until_ready()
    podman.log.clear()
    history = History(shop, podman, seed)
    for _ in range(STEPS):
        await history.step()
        history.check()
    await history.gets_well()
    history.check()
    await history.ends()
