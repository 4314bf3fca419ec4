"""What waits for demos: made ahead of time where there is room, handed out once, made up for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.unit.agent.checkpoints.shop import (
    WAIT_SECONDS,
    Shop,
    for_a_while,
    shop_definition,
    until,
)
from tests.unit.builders import make_export, make_template
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.checkpoints.plan import PRECREATED
from tryitnow.agent.checkpoints.precreated import PRECREATE_DELAY
from tryitnow.agent.checkpoints.registry import CheckpointRegistry
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.names import Role
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.agent.storage.unpack import CHECKPOINT, DEV_SHM
from tryitnow.api.checkpoint import Pool
from tryitnow.api.limits import MEMORY_EXHAUSTED
from tryitnow.api.template import EnvVar, EnvVarSource, KeySelector
from tryitnow.podman.errors import CRIUError, PodmanError, PodmanUnreachableError

MIB = 1 << 20


# -- warm sandboxes --------------------------------------------------------------------------------


async def test_a_pool_is_filled_before_anybody_has_claimed_from_it(shop: Shop) -> None:
    shop.order(warm=2)
    await shop.until_ready()
    await shop.until_stocked(warm=2)
    await until(lambda: shop.status.warm_ready == 2)
    assert shop.registry.stock_size == 2
    assert set(shop.sandboxes(Role.WARM)) <= shop.registry.stock_names


async def test_each_is_handed_out_once_and_the_oldest_first(shop: Shop) -> None:
    actor = shop.order(warm=2)
    await shop.until_ready()
    await shop.until_stocked(warm=2)
    taken = [actor.take_warm() for _ in range(3)]
    assert taken[2] is None
    names = [str(one.name) for one in taken if one is not None]
    assert sorted(names) == shop.sandboxes(Role.WARM)
    assert actor.stock_names.isdisjoint(names)


async def test_what_was_taken_is_made_up_for_when_the_burst_is_over(shop: Shop) -> None:
    actor = shop.order(warm=2)
    await shop.until_ready()
    await shop.until_stocked(warm=2)
    taken = actor.take_warm()
    assert taken is not None
    await for_a_while(0.1)
    assert actor.stock_size == 1, "the demos of a burst have the node for themselves"
    await until(lambda: actor.warm_ready == 2)


async def test_steady_demand_does_not_keep_a_pool_empty(shop: Shop) -> None:
    """B6: a claim each quarter of a second, for three seconds."""
    actor = shop.order(warm=2)
    await shop.until_ready()
    await shop.until_stocked(warm=2)
    claimed = 0
    for _ in range(12):
        taken = actor.take_warm()
        if taken is not None:
            claimed += 1
            await shop.node.sandboxes.remove(taken.name)
        await asyncio.sleep(0.25)
    assert claimed >= 4, "two that waited, and those that were made meanwhile"
    await shop.until_stocked(warm=2)


async def test_the_demand_for_one_checkpoint_holds_up_no_pool_of_another(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    """B6: pool B is refilled while there are four claims a second of A."""
    first = Shop(node, kubernetes, podman, checkpoint="a")
    second = Shop(node, kubernetes, podman, checkpoint="b")
    second.registry = first.registry
    kubernetes.on_write = lambda resource: first.registry.seen(resource)  # type: ignore[arg-type]
    for shop in (first, second):
        shop.order(warm=2)
    await first.until_ready()
    await second.until_ready()
    await until(lambda: first.actor.warm_ready == second.actor.warm_ready == 2)
    while second.actor.take_warm():
        pass
    async with asyncio.timeout(WAIT_SECONDS):
        while second.actor.warm_ready < 2:
            first.actor.take_warm()
            await asyncio.sleep(0.25)
    await first.registry.stop()


@pytest.fixture
async def short_of_memory(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> AsyncIterator[list[Shop]]:
    """Two shops that fill 1 MiB each demo, on a node with room for four."""
    podman.export_bytes = make_export(bytes(MIB))
    shops = [Shop(node, kubernetes, podman, checkpoint=name) for name in ("a", "b")]

    def free() -> int:
        running = shops[0].sandboxes(Role.WARM, Role.VERIFY)
        asked = [line.split()[-1] for line in podman.log if line.startswith("restore prepared")]
        return 4 * MIB - MIB * sum(name in asked for name in running)

    memory = Ledger(MEMORY_EXHAUSTED, "memory", free, 0)
    tools = replace(shops[0].tools, start=replace(shops[0].tools.start, memory=memory))
    registry = CheckpointRegistry(node.settings, tools, lambda: True)
    for shop in shops:
        shop.tools, shop.registry = tools, registry
    kubernetes.on_write = lambda resource: registry.seen(resource)  # type: ignore[arg-type]
    yield shops
    await registry.stop()


async def test_no_memory_is_reserved_twice(short_of_memory: list[Shop], podman: FakePodman) -> None:
    """B7: two pools of four, and room for four."""
    podman.delay["restore prepared"] = 0.05
    for shop in short_of_memory:
        shop.order(warm=4)
    for shop in short_of_memory:
        await shop.until_ready()
    most = 0
    for _ in range(100):
        most = max(most, len(short_of_memory[0].sandboxes(Role.WARM)))
        await asyncio.sleep(0.01)
    assert most <= 4
    registry = short_of_memory[0].registry
    await until(lambda: registry.stock_size == sum(a.warm_ready for a in registry))
    assert registry.stock_size == 4
    reported = [shop.status.warm_message for shop in short_of_memory]
    assert any("memory" in message for message in reported if message)
    assert all(actor.is_ready for actor in registry), "the archives are not to blame"


async def test_memory_that_gets_free_is_used_after_a_pause(
    short_of_memory: list[Shop],
) -> None:
    shop, other = short_of_memory
    shop.order(warm=4)
    await shop.until_ready()
    await until(lambda: shop.actor.warm_ready == 4)
    other.order(warm=1)
    await until(lambda: other.actor.state.failure is not None)
    assert "MemoryExhausted" in shop.kubernetes.reasons(), "not even its test restore has room"
    shop.change(pool=Pool(warm=1))
    await until(lambda: len(shop.sandboxes(Role.WARM)) == 1)
    shop.clock.forward(minutes=10)
    other.clock.forward(minutes=10)
    other.actor.turn()
    await other.until_ready()
    await until(lambda: other.actor.warm_ready == 1)
    await until(lambda: other.status.warm_message is None)


async def test_a_full_node_keeps_no_more_and_says_so(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    shop = Shop(node, kubernetes, podman)
    shop.tools = replace(shop.tools, free_capacity=lambda _: 1 - shop.registry.stock_size)
    shop.new_agent()
    shop.order(warm=2)
    await shop.until_ready()
    await until(lambda: "MAX_INSTANCES" in (shop.status.warm_message or ""))
    await until(lambda: len(shop.sandboxes(Role.WARM)) == 1)  # as many as there is room for
    assert shop.actor.is_ready
    await shop.ends()


async def test_warm_sandboxes_give_way_to_a_demo_that_needs_memory(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    shop, free = Shop(node, kubernetes, podman), 100 * MIB

    def free_bytes() -> int:
        return free + (3 - len(shop.sandboxes(Role.WARM))) * MIB

    memory = Ledger(MEMORY_EXHAUSTED, "memory", free_bytes, 0)
    shop.tools = replace(shop.tools, start=replace(shop.tools.start, memory=memory))
    shop.new_agent()
    shop.order(warm=3)
    await shop.until_ready()
    await shop.until_stocked(warm=3)
    await shop.registry.make_room(0)
    assert len(shop.sandboxes(Role.WARM)) == 3, "there is room"
    free = -MIB
    await shop.registry.make_room(0)
    assert len(shop.sandboxes(Role.WARM)) == 2, "no more than it takes"
    await until(lambda: "needed the memory" in (shop.status.warm_message or ""))
    await for_a_while()
    assert len(shop.sandboxes(Role.WARM)) == 2, "none takes its place at once"
    free = -10 * MIB
    await shop.registry.make_room(0)
    assert shop.sandboxes(Role.WARM) == []
    await shop.registry.make_room(0)  # nothing is left to give way, and it ends
    await shop.ends()


async def test_a_warm_sandbox_that_gives_way_goes_whatever_happens_to_the_demo(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    shop, is_short = Shop(node, kubernetes, podman), False
    memory = Ledger(MEMORY_EXHAUSTED, "memory", lambda: -MIB if is_short else 100 * MIB, 0)
    shop.tools = replace(shop.tools, start=replace(shop.tools.start, memory=memory))
    shop.new_agent()
    shop.order(warm=2)
    await shop.until_ready()
    await shop.until_stocked(warm=2)
    is_short, podman.delay["remove pod"] = True, 0.1
    start = asyncio.create_task(shop.registry.make_room(0))
    await asyncio.sleep(0.01)
    start.cancel()  # the demo was deleted
    await asyncio.gather(start, return_exceptions=True)
    await until(lambda: len(shop.sandboxes(Role.WARM)) == 1)
    podman.failures["remove pod"] = PodmanError("device or resource busy")
    await shop.registry.make_room(0)  # the start of a demo goes on all the same
    assert shop.actor.warm_ready == 0
    await shop.ends()


async def test_a_pool_fills_no_more_than_the_share_of_its_namespace(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    shop = Shop(node, kubernetes, podman)
    sharing = replace(node.settings, namespace_share=15)

    def free(namespace: str) -> int:
        return sharing.namespace_capacity - shop.registry.stock_size_of(namespace)

    shop.tools = replace(shop.tools, settings=sharing, free_capacity=free)
    shop.new_agent()
    shop.order(warm=5)
    await shop.until_ready()
    await until(lambda: len(shop.sandboxes(Role.WARM)) == 3)
    await until(lambda: "NAMESPACE_SHARE" in (shop.status.warm_message or ""))
    assert len(shop.sandboxes(Role.WARM)) == 3
    assert free("other") == 3
    await shop.ends()


async def test_what_is_not_wanted_any_more_goes_at_once(shop: Shop, podman: FakePodman) -> None:
    """B27: while the rest of the pool is still being filled."""
    actor = shop.order(warm=1)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    podman.delay["restore prepared"] = 0.5
    shop.change(pool=Pool(warm=4))
    await until(lambda: actor.stock_size == 4)
    shop.change(pool=Pool(warm=0))
    assert actor.warm_ready == 0
    podman.delay.clear()
    await until(lambda: shop.sandboxes(Role.WARM) == [])
    assert actor.stock_size == 0


async def test_they_wait_paused_where_that_is_wanted(shop: Shop, podman: FakePodman) -> None:
    shop.order(warm=1, pause=True)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    [name] = shop.sandboxes(Role.WARM)
    state = await podman.inspect(name)
    assert state is not None
    assert state.paused


async def test_one_that_cannot_be_paused_is_not_left(shop: Shop, podman: FakePodman) -> None:
    podman.failures["pause"] = PodmanError("the freezer is broken")
    shop.order(warm=1, pause=True)
    await shop.until_ready()
    await until(lambda: shop.asked("pause"))
    await until(lambda: shop.sandboxes(Role.WARM) == [])
    await until(lambda: "freezer" in (shop.status.warm_message or ""))


async def test_one_that_ended_is_reported_to_be_gone_before_it_is_replaced(
    shop: Shop, podman: FakePodman
) -> None:
    """Or a demo would be sent here for it meanwhile."""
    actor = shop.order(warm=1)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    [name] = shop.sandboxes(Role.WARM)
    podman.delay["restore prepared"] = 0.3
    podman.stop(name)
    actor.resync(ended={name}, gone=set())
    await until(lambda: shop.status.warm_ready == 0)
    assert actor.take_warm() is None
    await until(lambda: shop.status.warm_ready == 1)
    assert shop.sandboxes(Role.WARM) != [name]


async def test_one_that_does_not_answer_any_more_is_replaced(
    shop: Shop, podman: FakePodman
) -> None:
    actor = shop.order(warm=1)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    [name] = shop.sandboxes(Role.WARM)
    podman.answers["/"] = 503
    shop.clock.forward(minutes=1)
    actor.resync(ended=set(), gone=set())
    await until(lambda: name not in shop.sandboxes(Role.WARM))
    podman.answers.clear()
    shop.clock.forward(minutes=10)
    actor.turn()
    await shop.until_stocked(warm=1)


async def test_one_that_was_claimed_while_it_was_asked_is_not_removed(
    shop: Shop, podman: FakePodman
) -> None:
    actor = shop.order(warm=1)
    await shop.until_ready()
    await shop.until_stocked(warm=1)
    [name] = shop.sandboxes(Role.WARM)
    podman.delay["inspect pod"] = 0.1
    podman.answers["/"] = 503
    shop.clock.forward(minutes=1)
    actor.resync(ended=set(), gone=set())
    taken = actor.take_warm()
    assert taken is not None
    await for_a_while(0.3)
    assert name in podman.containers()


@pytest.mark.parametrize(
    "error",
    [
        PodmanUnreachableError("Podman does not answer"),
        OSError(28, "No space left on device"),
    ],
    ids=["Podman", "disk"],
)
async def test_what_the_node_lacks_leaves_a_pool_empty_and_the_archive_in_service(
    shop: Shop, podman: FakePodman, error: Exception
) -> None:
    actor = shop.order()
    await shop.until_ready()
    await shop.until_stocked()
    podman.failures["restore prepared"] = error
    for tries in range(1, 4):
        shop.change(pool=Pool(warm=4 + tries))
        await until(lambda: actor.stock_size == 0)
        shop.clock.forward(minutes=10)
        actor.turn()
    assert actor.is_ready
    assert shop.status.restore_failures == 0
    await until(lambda: str(error.args[-1]) in (shop.status.warm_message or ""))


async def test_an_archive_of_which_no_warm_sandbox_can_be_restored_is_taken_out_of_service(
    shop: Shop, podman: FakePodman
) -> None:
    actor = shop.order()
    await shop.until_ready()
    podman.failures["restore prepared"] = CRIUError("CRIU refused", "a log")
    shop.change(pool=Pool(warm=2))
    await until(lambda: not actor.is_ready)
    assert "QuarantinedRestoreFailed" in shop.kubernetes.reasons()


async def test_a_warm_sandbox_that_is_being_asked_is_nobodys_lost_work(
    shop: Shop, podman: FakePodman
) -> None:
    actor = shop.order()
    await shop.until_ready()
    podman.restored_status = None  # restored, and silent for now
    shop.change(pool=Pool(warm=1))
    await until(lambda: shop.sandboxes(Role.WARM))
    await for_a_while()
    assert set(shop.sandboxes(Role.WARM)) <= actor.stock_names


# -- pre-created sandboxes -------------------------------------------------------------------------


async def test_sandboxes_are_precreated_with_what_is_prepared_beside_them(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    podman.export_bytes = make_export(files={DEV_SHM: b"a tar"})
    shop = Shop(node, kubernetes, podman)
    actor = shop.order()
    await shop.until_ready()
    await shop.until_stocked(precreated=PRECREATED)
    generation = actor.generation
    assert generation is not None
    beside = podman.directory / shop.sandboxes(Role.PRECREATED)[0]
    assert (beside / CHECKPOINT).resolve() == generation.directory / "shop" / CHECKPOINT
    assert (beside / DEV_SHM).read_bytes() == b"a tar"
    await shop.ends()


async def test_each_is_taken_by_one_restore_with_its_ports_and_made_up_for(shop: Shop) -> None:
    actor = shop.order()
    await shop.until_ready()
    await shop.until_stocked()
    generation = actor.generation
    assert generation is not None
    taken = [actor.take_precreated(generation) for _ in range(PRECREATED + 1)]
    names = {str(one.name) for one in taken if one is not None}
    assert len(names) == PRECREATED
    assert taken[-1] is None
    await until(lambda: len(actor.stock_names - names) == PRECREATED)
    for one in taken:
        if one is not None:
            await shop.node.sandboxes.remove(one.name)
            one.generation.release()


async def test_none_is_made_beside_the_restore_that_took_one(shop: Shop) -> None:
    actor = shop.order()
    await shop.until_ready()
    await shop.until_stocked()
    assert actor.generation is not None
    taken = actor.take_precreated(actor.generation)
    assert taken is not None
    await for_a_while(PRECREATE_DELAY / 3)
    actor.turn()
    await for_a_while(PRECREATE_DELAY / 3)
    assert len(shop.sandboxes(Role.PRECREATED)) == PRECREATED, "and one of them is taken"
    await until(lambda: len(shop.sandboxes(Role.PRECREATED)) == PRECREATED + 1)
    taken.generation.release()


async def test_none_of_another_generation_is_handed_out(shop: Shop, podman: FakePodman) -> None:
    actor = shop.order()
    await shop.until_ready()
    await shop.until_stocked()
    old = actor.generation
    assert old is not None
    made = set(shop.sandboxes(Role.PRECREATED))
    podman.images.clear()
    actor.archive_changed()
    await until(lambda: actor.generation not in {None, old})
    assert actor.take_precreated(old) is None
    await shop.until_stocked()
    assert made.isdisjoint(shop.sandboxes(Role.PRECREATED))
    await until(lambda: not old.directory.exists())


async def test_ports_that_demos_may_need_are_left_to_them(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    settings = node.settings
    spare = settings.last_port - settings.first_port + 1 - settings.capacity
    node.settings = replace(settings, last_port=settings.last_port - spare + 2)
    shop = Shop(node, kubernetes, podman)
    shop.order()
    await shop.until_ready()
    await until(lambda: len(shop.sandboxes(Role.PRECREATED)) == 2)
    await for_a_while()
    assert len(shop.sandboxes(Role.PRECREATED)) == 2
    await shop.ends()


async def test_they_wait_for_demos_that_are_being_restored(shop: Shop) -> None:
    shop.order()
    async with shop.tools.start.turns.turn("default", urgent=True):
        await shop.until_ready()
        await for_a_while()
        assert shop.sandboxes(Role.PRECREATED) == []
    await shop.until_stocked()


async def test_one_that_cannot_be_made_is_tried_again_after_a_pause(
    shop: Shop, podman: FakePodman
) -> None:
    actor = shop.order()
    await shop.until_ready()
    await shop.until_stocked()
    podman.failures["create stopped"] = PodmanError("the OCI runtime has a bad day")
    tries = len(shop.asked("create stopped"))
    generation = actor.generation
    assert generation is not None
    taken = actor.take_precreated(generation)
    await until(lambda: len(shop.asked("create stopped")) == tries + 1)
    for _ in range(5):
        actor.turn()
        await for_a_while(0.02)
    assert len(shop.asked("create stopped")) == tries + 1
    del podman.failures["create stopped"]
    shop.clock.forward(minutes=1)
    actor.turn()
    assert taken is not None
    await until(lambda: len(actor.stock_names) == PRECREATED)
    taken.generation.release()


async def test_those_that_somebody_removed_are_made_again(shop: Shop, podman: FakePodman) -> None:
    actor = shop.order()
    await shop.until_ready()
    await shop.until_stocked()
    pruned = shop.sandboxes(Role.PRECREATED)[:2]
    for name in pruned:
        await podman.remove(name)
    actor.resync(ended=set(), gone=set(pruned))
    await shop.until_stocked()
    await until(lambda: len(podman.pods) == shop.node.ports.taken == PRECREATED)


async def test_a_secret_that_is_missing_is_not_held_against_the_archive(
    node: Node, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    selector = EnvVarSource(secret_key_ref=KeySelector(name="shop", key="password"))
    template = make_template(env=(EnvVar(name="PASSWORD", value_from=selector),))
    shop = Shop(node, kubernetes, podman, definition=shop_definition(template=template))
    secret = ("secrets", type(shop.revision.key)("default", "shop"))
    kubernetes.data[secret] = {"password": b"hunter2"}
    shop.order()
    await shop.until_ready()
    await shop.until_stocked()
    del kubernetes.data[secret]
    shop.change(pool=Pool(warm=2))
    generation = shop.actor.generation
    assert generation is not None
    while shop.actor.take_precreated(generation):
        pass
    await for_a_while(0.3)
    assert shop.actor.is_ready
    assert shop.status.restore_failures == 0
    await shop.ends()
