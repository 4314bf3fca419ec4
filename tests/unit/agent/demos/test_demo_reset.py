"""A person asks for a fresh demo: same name, same URL, and nothing of the old one."""

from __future__ import annotations

from datetime import timedelta

from tests.unit.agent.demos.shop import DROP, RENAME, Shop
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import ConditionStatus
from tryitnow.podman.errors import ImagePullError, PodmanError

FALSE, TRUE = ConditionStatus.FALSE, ConditionStatus.TRUE


async def settle(shop: Shop, demo: DemoInstance) -> None:
    while (wait := await shop.resync(demo)) is not None:
        shop.clock.wait(wait)


async def test_it_has_the_same_url_and_nothing_of_what_was_written(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    before = await shop.ready()
    await settle(shop, shop.ask_for_reset(before))
    after = shop.seen(before)
    assert shop.ready_of(before)[0] is TRUE
    assert (after.status.url, after.status.ports) == (before.status.url, before.status.ports)
    assert after.status.resets == 1
    assert not shop.is_kept(before)
    assert shop.commands() == [DROP, RENAME]
    assert kubernetes.reasons()[0] == "Reset"
    assert not kubernetes.events[0].is_warning, "it was asked for"


async def test_it_is_done_once_for_each_time_that_it_was_asked_for(shop: Shop) -> None:
    demo = await shop.ready()
    for value, resets in (("1", 1), ("1", 1), ("2", 2)):
        await settle(shop, shop.ask_for_reset(demo, value))
        assert shop.seen(demo).status.resets == resets


async def test_the_status_says_so_before_anything_is_removed(
    shop: Shop, podman: FakePodman
) -> None:
    demo = await shop.ready()
    podman.failures["remove pod"] = PodmanError("device or resource busy")
    try:
        await shop.resync(shop.ask_for_reset(demo))
    except PodmanError:
        after = shop.seen(demo)
    assert not after.was_ready
    assert shop.ready_of(demo) == (FALSE, "Reset")
    podman.failures.clear()
    await settle(shop, demo)
    assert shop.seen(demo).status.resets == 1


async def test_one_that_was_given_up_gets_another_chance(shop: Shop, podman: FakePodman) -> None:
    demo = shop.ordered()
    podman.failures["create container"] = PodmanError("crun: no such command")
    await settle(shop, demo)
    assert shop.seen(demo).status.phase is DemoInstancePhase.FAILED
    assert shop.condition(demo, "Stalled").status is TRUE
    assert "kubectl tryitnow reset annas-demo" in shop.condition(demo, "Stalled").message
    podman.failures.clear()
    await settle(shop, shop.ask_for_reset(demo))
    assert shop.ready_of(demo)[0] is TRUE
    assert shop.condition(demo, "Stalled").status is FALSE


async def test_one_in_a_crash_loop_starts_without_its_history(shop: Shop) -> None:
    demo = await shop.ready()
    for _ in range(3):
        shop.crash(demo)
        while wait := await shop.resync(demo):
            shop.clock.wait(wait)
    await settle(shop, shop.ask_for_reset(demo))
    shop.crash(demo)
    assert await shop.resync(demo) is None, "started again at once"


async def test_it_waits_while_the_storage_is_not_what_it_was(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    demo = await shop.ready()
    shop.node.guard.seen_containers(listed=0, ready_demos=1)
    await shop.resync(shop.ask_for_reset(demo))
    assert shop.is_kept(demo)
    assert shop.ready_of(demo)[0] is TRUE, "the demo that is there goes on"
    assert kubernetes.reasons() == ["StorageChanged"]
    shop.node.guard.seen_containers(listed=2, ready_demos=1)
    await settle(shop, demo)
    assert not shop.is_kept(demo)
    assert shop.seen(demo).status.resets == 1


async def test_a_fresh_one_that_cannot_be_had_yet_is_reported(
    shop: Shop, podman: FakePodman
) -> None:
    demo = await shop.ready()
    podman.failures["pull"] = ImagePullError("the registry does not answer")
    asked = shop.ask_for_reset(demo)
    assert await shop.resync(asked) == timedelta()
    for _ in range(5):
        shop.clock.wait(await shop.resync(demo) or 0)
    assert shop.ready_of(demo) == (FALSE, "ImagePullFailed")
    podman.failures.clear()
    await settle(shop, demo)
    assert shop.seen(demo).status.url == demo.status.url
