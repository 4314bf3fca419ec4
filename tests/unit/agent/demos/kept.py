"""A revision of the shop that lies on the node, as an agent before left it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.unit.agent.demos.shop import Shop
from tests.unit.builders import make_archive, make_node_checkpoint
from tryitnow.agent.checkpoints.plan import PRECREATED
from tryitnow.agent.checkpoints.reconcile import CheckpointActor
from tryitnow.agent.sandbox.names import Role, parse
from tryitnow.agent.storage.archives import ArchiveName
from tryitnow.agent.storage.unpack import CHECKPOINT
from tryitnow.api.checkpoint import Pool
from tryitnow.api.meta import Key

CONTENT = b"the memory of a warm shop"


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a moment until something holds."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - several things tell of it
            await asyncio.sleep(0.005)


class Kept:
    """A revision of the shop that an agent before this one prepared and tested."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.key = Key("", "")

    async def keep(self, *, warm: int = 0, pause: bool = False) -> CheckpointActor:
        """Have the node keep it, with a warm pool."""
        shop, node = self.shop, self.shop.node
        definition = shop.revision.spec.definition
        file = ArchiveName(
            Key("default", "shop"), shop.revision.spec.identity, definition.criu.compression
        )
        written = node.archives.write(file, iter([CONTENT]))
        archive = make_archive(sha256=written.sha256, size_bytes=written.size_bytes)
        unfinished = node.generations.begin(file.stem)
        images = {
            member.name: f"image-of-{member.name}:1" for member in definition.template.members
        }
        for name in images:
            (unfinished / name / CHECKPOINT).mkdir(parents=True)
        (unfinished / ".volumes" / "data").mkdir(parents=True)
        node.generations.finish(unfinished, archive.sha256, images)
        shop.podman.images |= set(images.values())
        held = shop.kubernetes.put(
            make_node_checkpoint(
                revision=shop.revision.spec.identity,
                archive=archive,
                verified_with=node.health.current.versions,
                pool=Pool(warm=warm, pause=pause),
            )
        )
        self.key = held.key
        node.checkpoints.seen(node.node_checkpoints.update(held))
        actor = node.checkpoints.get(held.key)
        assert actor is not None
        await until(lambda: actor.is_ready and self.waiting(Role.WARM) >= warm)
        # While one of them is made, the firewall and Podman are not still.
        await until(lambda: self.waiting(Role.PRECREATED) >= PRECREATED)
        return actor

    def waiting(self, role: Role) -> int:
        """Number of containers that wait in a role and are done."""
        if role is Role.WARM:
            return sum(actor.warm_ready for actor in self.shop.node.checkpoints)
        names = map(parse, self.shop.node.checkpoints.waiting_names)
        return sum(name is not None and name.role is role for name in names)
