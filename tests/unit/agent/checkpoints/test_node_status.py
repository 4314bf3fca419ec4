"""The status has one writer, which writes the newest until the API server has it."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.agent.checkpoints.shop import Shop, for_a_while, until
from tests.unit.builders import make_node_checkpoint
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.checkpoints.status import StatusWriter
from tryitnow.api.checkpoint import Pool
from tryitnow.api.meta import Resource
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.kubernetes.errors import RefusedError
from tryitnow.kubernetes.objects import Listing
from tryitnow.kubernetes.store import Store


@pytest.fixture
def held(kubernetes: FakeKubernetes) -> NodeCheckpoint:
    return kubernetes.put(make_node_checkpoint(phase=NodeCheckpointPhase.PENDING))


@pytest.fixture
def known(held: NodeCheckpoint) -> Store[NodeCheckpoint]:
    known: Store[NodeCheckpoint] = Store(NodeCheckpoint)
    known.update(held)
    return known


async def test_the_newest_status_replaces_one_that_was_not_written_yet(
    kubernetes: FakeKubernetes, known: Store[NodeCheckpoint], held: NodeCheckpoint
) -> None:
    writer = StatusWriter(kubernetes, known, held)
    kubernetes.writes.clear()
    for number in range(5):
        writer.write(held.status.model_copy(update={"warm_ready": number}))
    await writer.flush()
    assert kubernetes.find(held).status.warm_ready == 4
    assert len(kubernetes.writes) <= 2
    await writer.close()


async def test_a_status_that_comes_at_the_end_of_a_write_is_written_as_well(
    kubernetes: FakeKubernetes, known: Store[NodeCheckpoint], held: NodeCheckpoint
) -> None:
    writer = StatusWriter(kubernetes, known, held)
    newer = held.status.model_copy(update={"warm_ready": 2})

    def written(_: Resource) -> None:
        kubernetes.on_write = lambda _: None
        # Its turn comes after the last step of the write, and before anybody is told of its end.
        asyncio.get_running_loop().call_soon(writer.write, newer)

    kubernetes.on_write = written
    writer.write(held.status.model_copy(update={"warm_ready": 1}))
    await until(lambda: kubernetes.find(held).status.warm_ready == 2)
    await writer.close()


async def test_what_is_written_already_is_not_written_again(
    kubernetes: FakeKubernetes, known: Store[NodeCheckpoint], held: NodeCheckpoint
) -> None:
    writer = StatusWriter(kubernetes, known, held)
    kubernetes.writes.clear()
    writer.write(held.status)
    await writer.flush()
    assert kubernetes.writes == []


async def test_a_refused_status_is_written_as_soon_as_the_api_server_takes_it(
    kubernetes: FakeKubernetes, known: Store[NodeCheckpoint], held: NodeCheckpoint
) -> None:
    kubernetes.refusals["PATCH", "nodecheckpoints/status"] = RefusedError("quota")
    writer = StatusWriter(kubernetes, known, held)
    writer.write(held.status.model_copy(update={"warm_ready": 1}))
    await for_a_while(0.05)
    writer.write(held.status.model_copy(update={"warm_ready": 2}))
    kubernetes.refusals.clear()
    await until(lambda: kubernetes.find(held).status.warm_ready == 2)
    await writer.close()


async def test_a_spec_that_changes_meanwhile_does_not_lose_the_status(
    kubernetes: FakeKubernetes, known: Store[NodeCheckpoint], held: NodeCheckpoint
) -> None:
    writer = StatusWriter(kubernetes, known, held)
    spec = held.spec.model_copy(update={"pool": Pool(warm=3)})
    kubernetes.put(held.model_copy(update={"spec": spec}))  # its watch event is under way
    writer.write(held.status.model_copy(update={"warm_ready": 1}))
    await writer.flush()
    found = kubernetes.find(held)
    assert (found.status.warm_ready, found.spec.pool.warm) == (1, 3)


async def test_a_namesake_is_not_written_to(
    kubernetes: FakeKubernetes, known: Store[NodeCheckpoint], held: NodeCheckpoint
) -> None:
    writer = StatusWriter(kubernetes, known, held)
    other = kubernetes.put(
        make_node_checkpoint(phase=NodeCheckpointPhase.PENDING, uid="another object")
    )
    writer.write(held.status.model_copy(update={"warm_ready": 1}))
    await writer.flush()
    assert kubernetes.find(other).status.warm_ready == 0


async def test_an_old_event_does_not_undo_what_was_written(
    kubernetes: FakeKubernetes, known: Store[NodeCheckpoint], held: NodeCheckpoint
) -> None:
    writer = StatusWriter(kubernetes, known, held)
    writer.write(held.status.model_copy(update={"warm_ready": 1}))
    await writer.flush()
    writer.seen(known.update(held))
    assert writer.resource.status.warm_ready == 1


async def test_after_a_restore_from_a_backup_the_older_object_is_the_newest(
    kubernetes: FakeKubernetes, known: Store[NodeCheckpoint], held: NodeCheckpoint
) -> None:
    writer = StatusWriter(kubernetes, known, held)
    writer.write(held.status.model_copy(update={"warm_ready": 1}))
    await writer.flush()
    version = int(held.metadata.resource_version) - 1
    metadata = held.metadata.model_copy(update={"resource_version": str(version)})
    older = kubernetes.put(held.model_copy(update={"metadata": metadata}))
    known.replace(Listing([older], version, was_restored=True))
    writer.seen(older)
    writer.write(older.status.model_copy(update={"warm_ready": 1}))
    await writer.flush()
    assert kubernetes.find(held).status.warm_ready == 1, "or what was written before is believed"


async def test_why_an_attempt_failed_is_reported_while_it_is_tried_again(
    shop: Shop, podman: FakePodman
) -> None:
    podman.failures["build image"] = OSError(28, "No space left on device")
    shop.order()
    await until(lambda: shop.actor.state.failures)
    await until(lambda: shop.ready.reason == "DiskFull")
    assert "No space left on device" in shop.ready.message
    assert "It is tried again." in shop.ready.message
    assert shop.status.archive is not None
    del podman.failures["build image"]
    shop.clock.forward(minutes=1)
    shop.actor.turn()
    await shop.until_ready()
