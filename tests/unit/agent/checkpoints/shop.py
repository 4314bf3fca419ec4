"""A shop whose revision node-a is to keep, and what tests ask and do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.unit.builders import (
    make_archive,
    make_checkpoint_of,
    make_definition,
    make_node_checkpoint,
    make_revision,
)
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.checkpoints.reconcile import CheckpointActor
from tryitnow.agent.checkpoints.registry import CheckpointRegistry
from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.names import Role, parse
from tryitnow.agent.storage.archives import ArchiveName
from tryitnow.api.checkpoint import Pool
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.definition import Compression, CRIUOptions, Definition
from tryitnow.api.meta import Condition, Resource, find_condition
from tryitnow.api.nodecheckpoint import (
    Fetch,
    NodeCheckpoint,
    NodeCheckpointPhase,
    NodeCheckpointStatus,
    Source,
)

WAIT_SECONDS = 60
"""Longest that anything takes here that really happens."""


async def until(holds: Callable[[], Any], what: str = "what is waited for") -> None:
    """Wait until something holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not holds():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.005)
    assert holds(), what


async def for_a_while(seconds: float = 0.15) -> None:
    """Give what should not happen the time to happen."""
    await asyncio.sleep(seconds)


class Clock:
    """A clock that goes on, and that a test can set forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self._ahead

    def forward(self, **units: float) -> None:
        """Set it forward, by units of ``timedelta``."""
        self._ahead += timedelta(**units).total_seconds()


def shop_definition(**changes: Any) -> Definition:
    """Return a definition whose archive is not compressed: its bytes can be looked at."""
    return make_definition(**{"criu": CRIUOptions(compression=Compression.NONE), **changes})


@dataclass
class Shop:
    """The shop on node-a. ``order`` has the node keep it; the cluster's watch works."""

    node: Node
    kubernetes: FakeKubernetes
    podman: FakePodman
    definition: Definition = field(default_factory=shop_definition)
    checkpoint: str = "shop"
    storage_ok: bool = True
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.revision: CheckpointRevision = self.kubernetes.put(
            make_revision(self.checkpoint, definition=self.definition)
        )
        self.kubernetes.put(make_checkpoint_of(self.revision))
        self.tools: CheckpointTools = replace(self.node.demo_tools.warm, clock=self.clock)
        self.registry = self.new_agent()
        self.kubernetes.on_write = self._seen

    def new_agent(self) -> CheckpointRegistry:
        """Return the registry of an agent that has just begun; it takes over the watch."""
        settings = self.node.settings
        self.registry = CheckpointRegistry(settings, self.tools, lambda: self.storage_ok)
        return self.registry

    def _seen(self, resource: Resource) -> None:
        if isinstance(resource, NodeCheckpoint):
            self.registry.seen(self.node.node_checkpoints.update(resource))

    # What the cluster wants.

    def order(
        self,
        *,
        warm: int = 0,
        pause: bool = False,
        fetch: Fetch | None = None,
        uid: str | None = None,
        status: NodeCheckpointStatus | None = None,
    ) -> CheckpointActor:
        """Have the node keep the revision."""
        made = make_node_checkpoint(
            checkpoint=self.checkpoint,
            revision=self.revision.spec.identity,
            phase=NodeCheckpointPhase.PENDING,
            pool=Pool(warm=warm, pause=pause),
            fetch=fetch,
            uid=uid,
        )
        if status is not None:
            made = made.model_copy(update={"status": status})
        self._seen(self.kubernetes.put(made))
        return self.actor

    def change(self, **spec: Any) -> None:
        """Change the order."""
        now = self.kubernetes.find(self.actor.resource)
        changed = now.spec.model_copy(update=spec)
        self._seen(self.kubernetes.put(now.model_copy(update={"spec": changed})))

    async def delete(self) -> None:
        """Delete the object, as the controller does."""
        await self.kubernetes.delete(self.kubernetes.find(self.actor.resource))

    # What is there.

    @property
    def actor(self) -> CheckpointActor:
        """The actor of the revision."""
        found = self.registry.find(self.revision_key_of_checkpoint, self.revision.spec.identity)
        assert found is not None
        return found

    @property
    def revision_key_of_checkpoint(self) -> Any:
        """Namespace and name of the Checkpoint."""
        metadata = self.revision.metadata
        return type(self.revision.key)(metadata.namespace, self.checkpoint)

    @property
    def status(self) -> NodeCheckpointStatus:
        """The status as the cluster has it."""
        return self.kubernetes.find(self.actor.resource).status

    @property
    def ready(self) -> Condition:
        """The condition Ready as the cluster has it."""
        found = find_condition(self.status.conditions, "Ready")
        assert found is not None
        return found

    @property
    def file(self) -> ArchiveName:
        """Name of the archive."""
        return ArchiveName(
            self.revision_key_of_checkpoint,
            self.revision.spec.identity,
            self.definition.criu.compression,
        )

    @property
    def path(self) -> Path:
        """The archive."""
        return self.tools.archives.path(self.file)

    def sandboxes(self, *roles: Role) -> list[str]:
        """Return the names of all main containers in these roles."""
        found = [(parse(name), name) for name in self.podman.containers()]
        return [name for read, name in found if read is not None and read.role in roles]

    def asked(self, *calls: str) -> list[str]:
        """Return what was asked of Podman, of these calls."""
        return [line for line in self.podman.log if line.startswith(calls)]

    # What happens.

    async def until_phase(self, phase: NodeCheckpointPhase) -> None:
        """Wait until the cluster has been told of a phase."""
        await until(lambda: self.status.phase is phase, f"{phase}")

    async def until_ready(self) -> CheckpointActor:
        """Wait until demos can be restored, and the cluster knows."""
        await self.until_phase(NodeCheckpointPhase.READY)
        await until(lambda: self.actor.state.job is None)
        return self.actor

    async def until_calm(self) -> None:
        """Wait until nothing is being done."""
        await until(lambda: self.actor.state.adopted and self.actor.state.job is None)

    async def until_stocked(self, *, warm: int = 0, precreated: int = 4) -> None:
        """Wait until so many sandboxes wait."""
        await until(
            lambda: (
                self.actor.warm_ready == warm
                and self.actor.stock_size == warm
                and len(self.sandboxes(Role.PRECREATED)) == precreated
                and len(self.actor.stock_names) == warm + precreated
            )
        )

    async def ends(self) -> None:
        """End the agent; what it made stays."""
        await self.registry.stop()

    async def starts_again(self) -> CheckpointActor:
        """End the agent and start the next one."""
        await self.ends()
        resources: Iterable[NodeCheckpoint] = [actor.resource for actor in self.registry]
        self.podman.log.clear()
        registry = self.new_agent()
        for resource in resources:
            registry.seen(self.kubernetes.find(resource))
        return self.actor

    def has_software(self, **versions: Any) -> None:
        """Have the node examined with other software, or another processor."""
        health = self.node.health
        changed = health.current.versions.model_copy(update=versions)
        health.current = replace(health.current, versions=changed)
        self.registry.turn_all()

    def has_criu(self, *, available: bool) -> None:
        """Have the node examined with or without CRIU."""
        self.node.health.current = replace(self.node.health.current, criu_available=available)
        self.registry.turn_all()


SOURCE = Source(node_name="node-b", url="https://127.0.0.1:1/archives", certificate="none")
"""It gives nothing: what a test has fetched lies there already."""


def fetch_order(content: bytes) -> Fetch:
    """Order an archive of this content."""
    return Fetch(archive=make_archive(content), sources=(SOURCE,))
