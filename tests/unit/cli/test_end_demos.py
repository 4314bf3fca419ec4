"""Before an uninstallation no demo and no NodeCheckpoint is left, whatever became of its node."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from tests.unit.builders import (
    REVISION,
    make_checkpoint,
    make_demo,
    make_node_checkpoint,
    make_revision,
)
from tests.unit.fakes import FakeKubernetes
from tests.unit.virtual_time import in_virtual_time
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import NODE_FINALIZER, Key, Resource
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.cli.end_demos import end_all
from tryitnow.kubernetes.errors import ConflictError
from tryitnow.kubernetes.objects import AnyObject

TIMEOUT = timedelta(seconds=120)


def held(resource: DemoInstance | NodeCheckpoint) -> DemoInstance | NodeCheckpoint:
    metadata = resource.metadata.model_copy(update={"finalizers": (NODE_FINALIZER,)})
    return resource.model_copy(update={"metadata": metadata})


async def timed(kubernetes: FakeKubernetes) -> tuple[list[AnyObject], float]:
    clock = asyncio.get_running_loop().time
    began = clock()
    return await end_all(kubernetes, TIMEOUT), clock() - began


def test_agents_let_go_and_checkpoints_stay() -> None:
    checkpoint = make_checkpoint()
    kubernetes = FakeKubernetes(
        checkpoint, held(make_node_checkpoint()), held(make_demo("bound")), make_demo("pending")
    )

    async def run() -> tuple[list[AnyObject], float]:
        def agent(resource: Resource) -> None:
            if resource.is_deleting and resource.has_finalizer:
                loop = asyncio.get_running_loop()
                loop.call_later(5, lambda: tasks.append(loop.create_task(let_go(resource))))

        async def let_go(resource: Resource) -> None:
            await kubernetes.remove_finalizer(resource)

        tasks: list[asyncio.Task[None]] = []
        kubernetes.on_write = agent
        return await timed(kubernetes)

    remaining, took = in_virtual_time(run())
    assert remaining == []
    assert 5 <= took < 10
    assert kubernetes.has(checkpoint)


def test_what_a_lost_node_holds_is_let_go_after_the_timeout() -> None:
    node_checkpoint, demo = held(make_node_checkpoint()), held(make_demo("lost"))
    kubernetes = FakeKubernetes(node_checkpoint, demo)
    remaining, took = in_virtual_time(timed(kubernetes))
    assert remaining == []
    assert TIMEOUT.total_seconds() < took < TIMEOUT.total_seconds() + 5
    assert not kubernetes.has(node_checkpoint)
    assert not kubernetes.has(demo)


def test_revisions_go_last_as_the_hooks_of_demos_stand_in_them() -> None:
    revision = make_revision(finalizer=True)
    demo = held(make_demo("lost", node="node-a", revision=REVISION))
    strange = make_revision("blog", finalizer=True)
    kubernetes = FakeKubernetes(revision, demo, held(make_node_checkpoint()))
    body = {**strange.to_api(), "spec": {"of": "a newer version"}}
    kubernetes.put_body(type(strange), body)
    gone: list[str] = []

    class Watched(FakeKubernetes):
        def _drop(self, model: type[Resource], key: Key) -> None:
            gone.append(model.kind_name)
            super()._drop(model, key)

    kubernetes.__class__ = Watched
    remaining, _ = in_virtual_time(timed(kubernetes))
    assert remaining == []
    assert set(gone[:2]) == {"DemoInstance", "NodeCheckpoint"}
    assert gone[2:] == ["CheckpointRevision", "CheckpointRevision"]


def test_what_cannot_be_let_go_is_named_in_the_end() -> None:
    class Stubborn(FakeKubernetes):
        async def remove_finalizer(
            self,
            object_: AnyObject,
            finalizer: str = NODE_FINALIZER,  # noqa: ARG002 - any
        ) -> None:
            msg = f"{object_.key} changed"
            raise ConflictError(msg)

    demo = held(make_demo("stuck"))
    remaining, took = in_virtual_time(timed(Stubborn(demo)))
    assert [resource.metadata.name for resource in remaining] == ["stuck"]
    assert took < 2 * TIMEOUT.total_seconds()


def test_what_cannot_be_read_is_ended_as_well() -> None:
    """After a roll-back: nobody knows whose node it is on, and nobody else will let it go."""
    kubernetes = FakeKubernetes()
    demo = held(make_demo("strange"))
    kubernetes.put_body(DemoInstance, {**demo.to_api(), "spec": {"of": "a newer version"}})
    remaining, took = in_virtual_time(timed(kubernetes))
    assert remaining == []
    assert took > TIMEOUT.total_seconds(), "its node had its time"
    assert not kubernetes.has(demo)
