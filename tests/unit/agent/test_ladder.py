"""The ladder: each rung is reached by breaking the one above it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.builders import PORT, make_archive, make_blueprint, make_copy, make_instance
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent import warm
from tryitnow.agent.collect import collect
from tryitnow.agent.names import demo_container, warm_container
from tryitnow.agent.node import Node
from tryitnow.agent.pool import WarmCopy
from tryitnow.agent.quarantine import quarantine_if_damaged
from tryitnow.agent.restore import archive_name
from tryitnow.agent.sandbox import Sandbox
from tryitnow.agent.sources import SourceError
from tryitnow.agent.start import Outcome, ThawImpossibleError, start
from tryitnow.agent.unpack import CHECKPOINT
from tryitnow.agent.upkeep import discard_prepared
from tryitnow.agent.warm import reconcile_pool
from tryitnow.api.checkpoint import Compression, CRIUOptions, Pool
from tryitnow.api.demoinstance import FallbackReason, RestoredFrom, StartedBy, StartPolicy
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.podman.errors import CRIUError, PodmanError
from tryitnow.workqueue import WorkQueue

CONTENT = b"the frozen shop"


@pytest.fixture
def copy(node: Node) -> NodeCheckpoint:
    """A copy that lies on the node, archived and prepared."""
    found = make_copy(
        blueprint=make_blueprint(criu=CRIUOptions(compression=Compression.NONE)),
        archive=make_archive(CONTENT),
    )
    node.kubernetes.put(found)  # type: ignore[attr-defined]
    node.copies.update(found)
    file = archive_name(found)
    node.archives.write(file, iter([CONTENT]))
    unfinished = node.data.begin(file.stem)
    (unfinished / "shop" / CHECKPOINT).mkdir(parents=True)
    node.prepared[found.key] = node.data.finish(
        file.stem, make_archive(CONTENT).sha256, {"shop": "image"}
    )
    return found


async def wait_in_pool(node: Node, podman: FakePodman, copy: NodeCheckpoint) -> WarmCopy:
    name = warm_container(copy)
    ports = node.ports.take(str(name), [PORT])
    await podman.restore_import(str(name), copy.spec.blueprint.criu, ports, lambda: iter([b""]))
    podman.log.clear()
    made = WarmCopy(name, Sandbox(tuple(ports)), paused=False)
    node.pool.add(copy.key, made)
    return made


async def start_demo(
    node: Node, copy: NodeCheckpoint, policy: StartPolicy = StartPolicy.PREFER_RESTORE
) -> Outcome:
    instance = make_instance(node="node-a", revision=copy.spec.revision, start=policy)
    return await start(node, instance)


async def test_a_warm_copy_is_taken_as_it_is(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    waiting = await wait_in_pool(node, podman, copy)
    outcome = await start_demo(node, copy)
    assert outcome.started_by is StartedBy.WARM
    assert outcome.sandbox.ports == waiting.sandbox.ports
    assert outcome.timings.claim is not None
    assert podman.containers() == [str(demo_container(make_instance()))]


async def test_a_warm_copy_that_ended_leaves_the_prepared_restore(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    waiting = await wait_in_pool(node, podman, copy)
    await podman.remove(str(waiting.name))
    outcome = await start_demo(node, copy)
    assert outcome.started_by is StartedBy.RESTORE
    assert outcome.restored_from is RestoredFrom.PREPARED
    assert podman.containers() == [str(demo_container(make_instance()))]


async def test_a_warm_copy_of_a_busy_node_is_waited_for(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    waiting = await wait_in_pool(node, podman, copy)
    podman.delays[str(waiting.name)] = 0.3
    assert (await start_demo(node, copy)).started_by is StartedBy.WARM


async def test_one_that_is_silent_is_dropped_and_the_others_are_left_in_peace(
    node: Node,
    podman: FakePodman,
    copy: NodeCheckpoint,
    kubernetes: FakeKubernetes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(warm, "CLAIM_TIMEOUT_SECONDS", 0.1)
    waiting = [await wait_in_pool(node, podman, copy) for _ in range(2)]
    podman.delays |= {str(one.name): 1.0 for one in waiting}
    outcome = await start_demo(node, copy)
    assert outcome.started_by is StartedBy.RESTORE
    assert outcome.timings.claim is not None, "what was lost is part of what it took"
    assert outcome.timings.claim >= timedelta(seconds=0.1)
    [told] = [event for event in kubernetes.events if event.reason == "WarmCopyUnfit"]
    assert "no answer within 0.1 s" in told.note
    assert node.pool.of(copy.key) == tuple(waiting[1:])
    assert str(waiting[0].name) not in podman.containers()


async def test_the_ports_of_a_copy_that_is_being_claimed_are_not_given_back(
    node: Node, podman: FakePodman, copy: NodeCheckpoint, kubernetes: FakeKubernetes
) -> None:
    """A look at what nobody owns comes between its renaming and its first answer."""
    waiting = await wait_in_pool(node, podman, copy)
    kubernetes.put(make_instance(node="node-a", revision=copy.spec.revision))
    podman.delays[str(waiting.name)] = 0.3
    starting = asyncio.create_task(start_demo(node, copy))
    while str(waiting.name) in podman.containers():  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    nothing = WorkQueue("nothing", _look_at_nothing, expected=())
    await collect(node, nothing, nothing)
    outcome = await starting
    await nothing.close()
    assert outcome.started_by is StartedBy.WARM
    assert node.ports.owners() == {str(demo_container(make_instance()))}


async def _look_at_nothing(_: Key) -> None:
    return None


async def test_a_claim_that_fails_leaves_the_prepared_restore(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    await wait_in_pool(node, podman, copy)
    podman.failures["rename"] = PodmanError("the name is taken")
    outcome = await start_demo(node, copy)
    assert outcome.restored_from is RestoredFrom.PREPARED
    assert outcome.fallback is None
    assert podman.containers() == [str(demo_container(make_instance()))]


async def test_a_prepared_restore_that_fails_leaves_the_archive(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    podman.failures["restore prepared"] = CRIUError("CRIU refused", "a log")
    outcome = await start_demo(node, copy)
    assert outcome.started_by is StartedBy.RESTORE
    assert outcome.restored_from is RestoredFrom.ARCHIVE
    assert outcome.unserved is not None
    assert isinstance(outcome.unserved.error, CRIUError)
    assert outcome.timings.fallback == outcome.unserved.lost


async def test_what_did_not_serve_is_taken_away_unless_it_was_replaced_meanwhile(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    podman.failures["restore prepared"] = CRIUError("CRIU refused", "a log")
    unserved = (await start_demo(node, copy)).unserved
    assert unserved is not None
    node.prepared[copy.key] = replacement = replace(unserved.prepared, seal="another")
    await discard_prepared(node, copy, unserved)
    assert node.prepared[copy.key] is replacement
    node.prepared[copy.key] = unserved.prepared
    await discard_prepared(node, copy, unserved)
    assert copy.key not in node.prepared


async def test_an_archive_that_cannot_be_thawed_leaves_the_cold_start(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    podman.failures["restore prepared"] = CRIUError("CRIU refused", "a log")
    podman.failures["restore"] = CRIUError("CRIU refused again", "a log")
    outcome = await start_demo(node, copy)
    assert outcome.started_by is StartedBy.COLD_START
    assert outcome.fallback is not None
    assert outcome.fallback.reason is FallbackReason.RESTORE_FAILED


async def test_an_archive_that_was_changed_leaves_the_cold_start_and_is_called_bad(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    podman.failures["restore prepared"] = CRIUError("CRIU refused", "a log")
    node.archives.path(archive_name(copy)).write_bytes(b"the frozen sh0p")
    outcome = await start_demo(node, copy)
    assert outcome.started_by is StartedBy.COLD_START
    assert outcome.fallback is not None
    assert outcome.fallback.copy_is_bad


@pytest.mark.parametrize(
    ("error", "blamed"),
    [
        (CRIUError("CRIU refused", "a log"), True),
        (OSError(28, "No space left on device"), False),
        (SourceError("the Secret is missing"), False),
    ],
    ids=["CRIU", "full disk", "secret"],
)
async def test_what_is_the_nodes_fault_is_not_held_against_the_copy(
    node: Node, podman: FakePodman, copy: NodeCheckpoint, error: Exception, *, blamed: bool
) -> None:
    podman.failures |= {"restore prepared": error, "restore": error}
    with pytest.raises(ThawImpossibleError) as caught:
        await start_demo(node, copy, StartPolicy.RESTORE_ONLY)
    assert caught.value.reason is FallbackReason.RESTORE_FAILED
    assert caught.value.copy_failed is blamed


async def test_an_archive_that_was_replaced_is_not_blamed_for_its_predecessor(
    node: Node, copy: NodeCheckpoint
) -> None:
    await quarantine_if_damaged(node, copy, "it was damaged a minute ago")
    held = node.copies.get(copy.key)
    assert held is not None
    assert held.is_prepared
    node.archives.path(archive_name(copy)).write_bytes(b"the frozen shoq")
    await quarantine_if_damaged(node, copy, "it was damaged a minute ago")
    held = node.copies.get(copy.key)
    assert held is not None
    assert held.status.phase is NodeCheckpointPhase.QUARANTINED


async def test_who_wants_a_thaw_only_gets_no_cold_start(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    podman.failures["restore prepared"] = CRIUError("CRIU refused", "a log")
    podman.failures["restore"] = CRIUError("CRIU refused again", "a log")
    with pytest.raises(ThawImpossibleError):
        await start_demo(node, copy, StartPolicy.RESTORE_ONLY)
    assert podman.containers() == []


async def test_a_warm_copy_that_died_is_told_to_be_gone_before_it_is_replaced(
    node: Node,
    podman: FakePodman,
    copy: NodeCheckpoint,
    kubernetes: FakeKubernetes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or a demo would be sent here for it meanwhile."""
    spec = copy.spec.model_copy(update={"pool": Pool(warm=1)})
    copy = node.copies.update(kubernetes.put(copy.model_copy(update={"spec": spec})))
    await reconcile_pool(node, copy.key)
    (waiting,) = node.pool.of(copy.key)
    node.pool.taken_at = float("-inf")
    podman.stop(str(waiting.name), 1)
    told = []
    thaw = podman.restore

    async def restore(name: str, options: CRIUOptions) -> timedelta:
        told.append(kubernetes.find(copy).status.warm_ready)
        return await thaw(name, options)

    monkeypatch.setattr(podman, "restore", restore)
    await reconcile_pool(node, copy.key)
    assert told == [0]
    assert kubernetes.find(copy).status.warm_ready == 1


async def test_a_pool_that_nobody_has_claimed_from_yet_is_filled(
    node: Node, podman: FakePodman, copy: NodeCheckpoint
) -> None:
    spec = copy.spec.model_copy(update={"pool": Pool(warm=2)})
    node.copies.update(copy.model_copy(update={"spec": spec}))
    await reconcile_pool(node, copy.key)
    assert node.pool.size == 2
    assert sorted(node.pool.names()) == podman.containers()
