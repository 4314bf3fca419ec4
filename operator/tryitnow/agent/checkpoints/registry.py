"""All actors of this node, by the object that each of them owns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from tryitnow.agent.checkpoints.jobs import archive_of
from tryitnow.agent.checkpoints.reconcile import CheckpointActor
from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.counters import node_checkpoint_removed, node_checkpoint_seen
from tryitnow.agent.sandbox.names import ContainerName
from tryitnow.agent.transfer.server import Held
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.settings import AgentSettings


class CheckpointRegistry:
    """Makes an actor for each NodeCheckpoint of this node, and tells it the news."""

    def __init__(
        self, settings: AgentSettings, tools: CheckpointTools, storage_ok: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._tools = tools
        self._storage_ok = storage_ok
        self._actors: dict[Key, CheckpointActor] = {}
        self._ending: dict[Key, asyncio.Task[None]] = {}

    def __iter__(self) -> Iterator[CheckpointActor]:
        return iter(tuple(self._actors.values()))

    def __len__(self) -> int:
        return len(self._actors)

    def get(self, key: Key) -> CheckpointActor | None:
        """Return the actor of an object; None where there is none."""
        return self._actors.get(key)

    def find(self, checkpoint: Key, revision: str) -> CheckpointActor | None:
        """Return the actor of a revision of a Checkpoint; None where there is none."""
        for actor in self._actors.values():
            resource = actor.resource
            if resource.checkpoint_key == checkpoint and resource.spec.revision == revision:
                return actor
        return None

    def seen(self, resource: NodeCheckpoint) -> None:
        """Take in news of an object."""
        actor = self._actors.get(resource.key)
        if actor is not None and actor.resource.metadata.uid != resource.metadata.uid:
            # A namesake: the other one is gone, whatever was missed of its end.
            self.gone(actor.resource)
            actor = None
        if actor is None:
            node_checkpoint_seen(self._tools.start.metrics, resource)
            actor = CheckpointActor(
                self._tools,
                resource,
                spare_ports=self.spare_ports,
                storage_ok=self._storage_ok,
                gone=lambda: self._removed(resource),
                after=self._ending.get(resource.key),
            )
            self._actors[resource.key] = actor
        actor.seen(resource)

    def gone(self, resource: NodeCheckpoint) -> None:
        """Take in that an object does not exist any more."""
        actor = self._actors.get(resource.key)
        if actor is None or actor.resource.metadata.uid != resource.metadata.uid:
            return
        self._removed(resource)
        task = asyncio.create_task(self._end(actor, self._ending.get(resource.key)))
        self._ending[resource.key] = task
        task.add_done_callback(lambda _: self._ended(resource.key, task))

    @staticmethod
    async def _end(actor: CheckpointActor, earlier: asyncio.Task[None] | None) -> None:
        await actor.forget()
        if earlier is not None:
            await asyncio.wait({earlier})

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        if self._ending.get(key) is task:
            del self._ending[key]

    def gone_key(self, key: Key) -> None:
        """Take in that an object does not exist any more of which only the name is known."""
        actor = self._actors.get(key)
        if actor is not None:
            self.gone(actor.resource)

    def has_adopted(self, name: ContainerName) -> bool:
        """Whether the actor of a waiting sandbox has looked through what waited before it."""
        actor = self.find(name.owner, name.tag.partition("-")[0])
        return actor is not None and actor.state.adopted

    async def make_room(self, memory_bytes: int) -> None:
        """Remove warm sandboxes until a demo has that much memory, or none is left.

        They were restored in case somebody comes. The demo is there.
        """
        while self._tools.start.memory.available_bytes < memory_bytes:
            richest = max(self, key=lambda actor: actor.warm_ready, default=None)
            if richest is None or not await richest.give_up_warm():
                return

    @property
    def digests(self) -> set[str]:
        """Digests of all archives that lie here or are to."""
        found: set[str] = set()
        for actor in self:
            fetch, archive = actor.resource.spec.fetch, actor.resource.status.archive
            archives = (fetch.archive if fetch else None, archive, actor.state.archive)
            found |= {archive.sha256 for archive in archives if archive is not None}
        return found

    def find_archive(self, sha256: str) -> Held | None:
        """Return a whole archive; None where this node does not have it."""
        for actor in self:
            archive, file = archive_of(actor.state), actor.state.file
            if archive is not None and archive.sha256 == sha256 and file is not None:
                return Held(self._tools.archives.path(file), actor.resource)
        return None

    def _removed(self, resource: NodeCheckpoint) -> None:
        known = self._actors.get(resource.key)
        if known is None or known.resource.metadata.uid != resource.metadata.uid:
            return
        del self._actors[resource.key]
        owner = resource.checkpoint_key
        if not any(other.resource.checkpoint_key == owner for other in self):
            node_checkpoint_removed(self._tools.start.metrics, resource)

    def turn_all(self) -> None:
        """Have all actors decide anew: the node changed."""
        for actor in self:
            actor.turn()

    @property
    def stock_size(self) -> int:
        """Number of sandboxes that run, or are about to, without a demo."""
        return sum(actor.stock_size for actor in self)

    def stock_size_of(self, namespace: str) -> int:
        """Number of those of one namespace's Checkpoints."""
        own = (each for each in self if each.state.resource.metadata.namespace == namespace)
        return sum(actor.stock_size for actor in own)

    @property
    def stock_names(self) -> set[str]:
        """Names of all sandboxes that wait."""
        return {name for actor in self for name in actor.stock_names}

    @property
    def waiting_names(self) -> set[str]:
        """Names of all sandboxes that wait, done."""
        return {name for actor in self for name in actor.waiting_names}

    def spare_ports(self) -> int:
        """Return how many ports are left for pre-created sandboxes: no demo will need them."""
        each = max(
            (len(a.definition.template.ports) for a in self if a.definition is not None), default=1
        )
        settings = self._settings
        limit = settings.last_port - settings.first_port + 1
        held = sum(actor.ports_held for actor in self)
        return max(0, limit - settings.capacity * each - held)

    async def stop(self) -> None:
        """End all actors with the agent."""
        await asyncio.gather(*(actor.stop() for actor in self), *self._ending.values())
