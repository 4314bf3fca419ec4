"""Before an uninstallation no demo and no copy is left, whatever became of its node."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from tests.unit.builders import make_checkpoint, make_copy, make_instance
from tests.unit.fakes import FakeKubernetes
from tests.unit.virtual_time import in_virtual_time
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import NODE_FINALIZER, Resource
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
        checkpoint, held(make_copy()), held(make_instance("bound")), make_instance("pending")
    )

    async def play() -> tuple[list[AnyObject], float]:
        def agent(resource: Resource) -> None:
            if resource.is_deleting and resource.has_finalizer:
                loop = asyncio.get_running_loop()
                loop.call_later(5, lambda: tasks.append(loop.create_task(let_go(resource))))

        async def let_go(resource: Resource) -> None:
            await kubernetes.remove_finalizer(resource)

        tasks: list[asyncio.Task[None]] = []
        kubernetes.on_write = agent
        return await timed(kubernetes)

    remaining, took = in_virtual_time(play())
    assert remaining == []
    assert 5 <= took < 10
    assert kubernetes.has(checkpoint)


def test_what_a_lost_node_holds_is_let_go_after_the_timeout() -> None:
    copy, demo = held(make_copy()), held(make_instance("lost"))
    kubernetes = FakeKubernetes(copy, demo)
    remaining, took = in_virtual_time(timed(kubernetes))
    assert remaining == []
    assert TIMEOUT.total_seconds() < took < TIMEOUT.total_seconds() + 5
    assert not kubernetes.has(copy)
    assert not kubernetes.has(demo)


def test_what_cannot_be_let_go_is_named_in_the_end() -> None:
    class Stubborn(FakeKubernetes):
        async def remove_finalizer(self, object_: AnyObject) -> None:
            msg = f"{object_.key} changed"
            raise ConflictError(msg)

    demo = held(make_instance("stuck"))
    remaining, took = in_virtual_time(timed(Stubborn(demo)))
    assert [resource.metadata.name for resource in remaining] == ["stuck"]
    assert took < 2 * TIMEOUT.total_seconds()


def test_what_cannot_be_read_is_ended_as_well() -> None:
    """After a roll-back: nobody knows whose node it is on, and nobody else will let it go."""
    kubernetes = FakeKubernetes()
    demo = held(make_instance("strange"))
    kubernetes.put_body(DemoInstance, {**demo.to_api(), "spec": {"of": "a newer version"}})
    remaining, took = in_virtual_time(timed(kubernetes))
    assert remaining == []
    assert took > TIMEOUT.total_seconds(), "its node had its time"
    assert not kubernetes.has(demo)
