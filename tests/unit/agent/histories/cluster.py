"""The cluster of a history: its API server, what agents watch of it, and what the controller does.

It is ``FakeKubernetes`` with the ways in which an API server is hard to reach.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from tests.unit.agent.histories.life import expect_alive
from tests.unit.builders import make_checkpoint_of, make_node_checkpoint
from tests.unit.fakes import Backup, FakeKubernetes, copied
from tryitnow.api.checkpoint import Pool
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key, Resource
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.kubernetes.errors import KubernetesError

R = TypeVar("R", bound=Resource)

Event = dict[str, Any]
WATCHED: tuple[type[Resource], ...] = (DemoInstance, NodeCheckpoint)
NODE = "node-a"
CONTROL_SECONDS = 3.0
_BAD = frozenset({NodeCheckpointPhase.FAILED, NodeCheckpointPhase.QUARANTINED})


@dataclass
class Wanted:
    """A revision that the node is to keep."""

    revision: CheckpointRevision
    pool: Pool


class Cluster(FakeKubernetes):
    """The cluster of a history."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.seconds = 0.0
        """How much longer a request takes."""

        self.error: KubernetesError | None = None
        """What a part of the requests is answered."""

        self.wanted: dict[str, Wanted] = {}
        """By the name of the Checkpoint."""

        self._watchers: list[tuple[type[Resource], asyncio.Queue[Event | None]]] = []
        self._uids = itertools.count(1)
        self._read: dict[tuple[str, Key], tuple[dict[str, Any], Resource]] = {}
        """What bodies were read as: a body is replaced when the object changes."""

    # -- requests ----------------------------------------------------------------------------------

    async def _reach(self) -> None:
        expect_alive()
        await asyncio.sleep(self.chance.random() * 0.01 + self.seconds)
        expect_alive()
        if self.is_down:
            msg = "the API server does not answer"
            raise KubernetesError(msg)
        if self.error is not None and self.chance.random() < 0.5:
            raise type(self.error)(str(self.error))

    def _tell_time(self) -> None:
        return  # nothing on a node goes by it

    async def _request(self, what: str, *args: Any, **options: Any) -> Any:
        await self._reach()
        result = await super()._request(what, *args, **options)
        if self.chance.random() < 0.3:
            # It has happened, also where nobody hears of it.
            await asyncio.sleep(self.chance.random() * 0.01)
            expect_alive()
        return result

    async def namespace_uid(self, name: str) -> str:
        await self._reach()
        return await super().namespace_uid(name)

    async def node_uid(self, name: str) -> str:
        await self._reach()
        return await super().node_uid(name)

    async def data_of(self, resource: str, key: Key) -> dict[str, bytes]:
        await self._reach()
        return await super().data_of(resource, key)

    def event(self, *args: Any, **options: Any) -> None:
        expect_alive()
        super().event(*args, **options)

    # -- watches -----------------------------------------------------------------------------------

    def _write(self, model: type[Resource], key: Key, body: dict[str, Any]) -> dict[str, Any]:
        is_new = (model.plural, key) not in self._objects
        written = super()._write(model, key, body)
        self._notify(model, "ADDED" if is_new else "MODIFIED", written)
        return written

    def _drop(self, model: type[Resource], key: Key) -> None:
        body = self._objects[model.plural, key]
        super()._drop(model, key)
        self._notify(model, "DELETED", body)

    def _notify(self, model: type[Resource], kind: str, body: dict[str, Any]) -> None:
        for watched, events in self._watchers:
            if watched is model:
                events.put_nowait({"type": kind, "object": copied(body)})

    def follow(self, model: type[Resource]) -> tuple[asyncio.Queue[Event | None], list[Event]]:
        """Return what happens from now on (None: the watch broke), and what is there."""
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._watchers.append((model, events))
        there = [body for (plural, _), body in self._objects.items() if plural == model.plural]
        return events, [{"type": None, "object": copied(body)} for body in there]

    def break_watches(self) -> None:
        """Have all watches break: what happened meanwhile is found by a new list only."""
        watchers, self._watchers = self._watchers, []
        for _, events in watchers:
            while not events.empty():
                events.get_nowait()
            events.put_nowait(None)

    def restore(self, backup: Backup) -> None:
        super().restore(backup)
        self.break_watches()

    # -- what people and the controller do, at once ------------------------------------------------

    def new_uid(self) -> str:
        """Return a UID that nothing else has."""
        return f"{next(self._uids):08x}-uid"

    def add(self, resource: R) -> R:
        """Have an object made."""
        made = self.put(resource)
        self._notify(type(resource), "ADDED", self._body(type(resource), resource.key))
        return made

    def change(self, resource: R, patch: dict[str, Any], subresource: str = "") -> R:
        """Have an object changed."""
        model = type(resource)
        return model.model_validate(self._merge(model, resource.key, subresource, patch))

    def remove(self, resource: Resource) -> None:
        """Have an object deleted."""
        self._delete(type(resource), resource.key, {})

    def all_of(self, model: type[R]) -> list[R]:
        """Return all objects of a kind."""
        found = []
        for (plural, key), body in self._objects.items():
            if plural == model.plural:
                known, read = self._read.get((plural, key), (None, None))
                if known is not body:
                    read = model.model_validate(body)
                    self._read[plural, key] = body, read
                found.append(cast("R", read))
        return found

    async def control(self) -> None:
        """Do what the controller does about revisions, as far as one node notices."""
        while True:
            await asyncio.sleep(CONTROL_SECONDS)
            if not self.is_down:
                self._next_version()  # other objects of the cluster change all the time
                self._order()

    def _order(self) -> None:
        held = self.all_of(NodeCheckpoint)
        wanted = {w.revision.spec.identity: w for w in self.wanted.values()}
        for one_wanted in wanted.values():
            if not self.has(one_wanted.revision):
                self.add(one_wanted.revision)  # a backup from before it was restored
            checkpoint = make_checkpoint_of(one_wanted.revision)
            if not self.has(checkpoint) or self.find(checkpoint).spec != checkpoint.spec:
                self.put(checkpoint)
        # Demos that were bound to a revision before another one came may need it to start.
        starting = {d.status.revision for d in self.all_of(DemoInstance) if not d.was_ready}
        self._bind_unconfirmed()
        for revision in self.all_of(CheckpointRevision):
            if revision.spec.identity in starting:
                wanted.setdefault(revision.spec.identity, Wanted(revision, Pool()))
        for one in held:
            order = wanted.pop(one.spec.revision, None)
            if one.is_deleting:
                continue
            if order is None or one.status.phase in _BAD:
                self.remove(one)
                continue
            if one.spec.pool != order.pool:
                self.change(one, {"spec": {"pool": order.pool.to_api()}})
            images = order.revision.status.images
            if one.status.images and not images:
                status = {"status": {"images": dict(one.status.images)}}
                order.revision = self.change(order.revision, status, "status")
        for identity, order in wanted.items():
            self.add(
                make_node_checkpoint(
                    NODE,
                    checkpoint=order.revision.spec.checkpoint,
                    revision=identity,
                    phase=NodeCheckpointPhase.PENDING,
                    pool=order.pool,
                    uid=self.new_uid(),
                )
            )
        self._forget_revisions()

    def _bind_unconfirmed(self) -> None:
        """Have demos started from what the Checkpoint says by now, if nobody vouches for theirs."""
        for demo in self.all_of(DemoInstance):
            if demo.is_unconfirmed:
                newest = self.wanted[demo.spec.checkpoint_ref.name].revision.spec.identity
                if demo.status.revision != newest:
                    self.change(demo, {"status": {"revision": newest}}, "status")

    def _forget_revisions(self) -> None:
        needed: set[str | None] = {one.spec.revision for one in self.all_of(NodeCheckpoint)}
        needed |= {demo.status.revision for demo in self.all_of(DemoInstance)}
        needed |= {w.revision.spec.identity for w in self.wanted.values()}
        for revision in self.all_of(CheckpointRevision):
            if revision.spec.identity not in needed:
                self._drop(CheckpointRevision, revision.key)
