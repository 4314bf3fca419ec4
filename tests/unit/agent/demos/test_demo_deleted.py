"""The end of a demo: its hooks, its sandbox, its object. Deleting always ends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.agent.demos.shop import DROP, Shop
from tests.unit.builders import make_demo
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.demos.before_delete import TRIES
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, StartPolicy
from tryitnow.api.meta import ConditionStatus, ObjectMeta
from tryitnow.kubernetes.errors import ConflictError, KubernetesError
from tryitnow.podman.client import Executed
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError


async def test_the_hooks_run_first_and_then_nothing_is_left(
    shop: Shop, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    demo = await shop.ready()
    await shop.delete(demo)
    await shop.resync(demo)
    assert shop.commands() == [DROP]
    [(_, _, env)] = podman.executed
    assert env["TRYITNOW_NAME"] == "annas-demo"
    assert "TRYITNOW_SECRET" not in env
    assert podman.containers() == []
    assert podman.pods == {}
    assert shop.node.volumes.tags() == set()
    assert shop.node.ports.taken == 0
    assert not kubernetes.has(demo)
    assert shop.node.demos.get(demo.key) is None
    assert kubernetes.events == []


async def test_the_hooks_are_those_of_its_revision_though_its_checkpoint_is_gone(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    """B4: ``kubectl delete namespace``. The revision stays as long as the demo refers to it."""
    demo = await shop.ready()
    for resource in (kubernetes.find(shop.revision),):
        await kubernetes.delete(
            kubernetes.put(
                resource.model_copy(
                    update={
                        "metadata": ObjectMeta.model_validate(
                            {**resource.metadata.model_dump(), "finalizers": ("tryitnow.dev/x",)}
                        )
                    }
                )
            )
        )
    await shop.delete(demo)
    await shop.resync(demo)
    assert shop.commands() == [DROP]
    assert not kubernetes.has(demo)


async def test_hooks_that_cannot_run_are_reported(
    shop: Shop, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    """B4: never in silence."""
    demo = await shop.ready()
    podman.stop(shop.database(demo))
    await shop.delete(demo)
    await shop.resync(demo)
    assert shop.commands() == []
    assert not kubernetes.has(demo)
    [event] = kubernetes.events
    assert (event.reason, event.is_warning) == ("BeforeDeleteSkipped", True)
    assert "its containers do not run" in event.note


async def test_a_hook_that_never_succeeds_is_given_up_after_some_tries(
    shop: Shop, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    demo = await shop.ready()
    await shop.delete(demo)
    podman.outcomes = [Executed(1, "the database is away")] * TRIES
    for tried in range(1, TRIES):
        wait = await shop.resync(demo)
        assert wait is not None
        assert await shop.resync(demo) is not None, "not before the pause is over"
        assert len(shop.commands()) == tried
        shop.clock.wait(wait)
    await shop.resync(demo)
    assert not kubernetes.has(demo)
    [event] = kubernetes.events
    assert event.reason == "BeforeDeleteFailed"
    assert "the database is away" in event.note


async def test_hooks_that_hang_for_long_are_given_up_as_well(
    shop: Shop, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    """More than the ten minutes after which a crash is forgiven."""
    demo = await shop.ready()
    await shop.delete(demo)
    podman.outcomes = [Executed(1, "too late")] * 10
    for _ in range(TRIES):
        shop.clock.wait(timedelta(minutes=11))
        await shop.resync(demo)
    assert not kubernetes.has(demo)


async def test_one_that_never_was_ready_has_nothing_outside(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    demo = shop.ordered(finalizer=True)
    await shop.delete(demo)
    await shop.resync(demo)
    assert shop.commands() == []
    assert kubernetes.events == []
    assert not kubernetes.has(demo)


async def test_a_hook_that_failed_at_the_start_may_have_left_something_outside(
    shop: Shop, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    demo = shop.ordered(start=StartPolicy.COLD_START)
    # After the database's own probe.
    podman.outcomes = [Executed(0, ""), Executed(1, "the schema is there already")]
    await shop.resync(demo)
    assert shop.ready_of(demo)[1] == "HookFailed"
    kubernetes.events.clear()
    await shop.delete(demo)
    await shop.resync(demo)
    assert not kubernetes.has(demo)
    [event] = kubernetes.events
    assert (event.reason, event.is_warning) == ("BeforeDeleteSkipped", True)


async def test_a_podman_that_is_away_is_waited_for(
    shop: Shop, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    demo = await shop.ready()
    await shop.delete(demo)
    podman.failures["inspect"] = PodmanUnreachableError("it is restarted")
    with pytest.raises(PodmanUnreachableError):
        await shop.resync(demo)
    podman.failures.clear()
    await shop.resync(demo)
    assert shop.commands() == [DROP]
    assert not kubernetes.has(demo)


@pytest.mark.parametrize(
    "refusal", [ConflictError("it was changed"), KubernetesError("it does not answer")]
)
async def test_hooks_that_have_run_are_not_said_to_be_skipped_when_the_rest_is_late(
    shop: Shop, kubernetes: FakeKubernetes, refusal: KubernetesError
) -> None:
    demo = await shop.ready()
    await shop.delete(demo)
    kubernetes.refusals["PATCH", "demoinstances"] = refusal
    with pytest.raises(KubernetesError):
        await shop.resync(demo)
    assert shop.seen(demo).status.phase is DemoInstancePhase.TERMINATING
    assert shop.ready_of(demo) == (ConditionStatus.FALSE, "Terminating")
    kubernetes.refusals.clear()
    await shop.resync(demo)
    assert not kubernetes.has(demo)
    assert shop.commands() == [DROP]
    assert kubernetes.events == []


async def test_a_sandbox_that_podman_does_not_remove_keeps_the_object(
    shop: Shop, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    demo = await shop.ready()
    await shop.delete(demo)
    podman.failures["remove pod"] = PodmanError("device or resource busy")
    for _ in range(2):
        with pytest.raises(PodmanError):
            await shop.resync(demo)
    assert kubernetes.has(demo)
    podman.failures.clear()
    await shop.resync(demo)
    assert not kubernetes.has(demo)


# -- objects that do not fit our model ------------------------------------------------------------


def unreadable(shop: Shop, kubernetes: FakeKubernetes, demo: DemoInstance) -> None:
    """Have a newer version of us write something that we do not know."""
    body = kubernetes.find(demo).to_api()
    body["spec"]["start"] = "ByMagic"
    kubernetes.put_body(DemoInstance, body)
    shop.node.demos.ingest(body)


async def test_one_that_cannot_be_read_can_be_deleted(
    shop: Shop, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    """B17."""
    demo = await shop.ready()
    other = await shop.ready("bens-demo")
    await kubernetes.delete(demo)
    unreadable(shop, kubernetes, demo)
    await shop.resync(demo)
    assert not kubernetes.has(demo)
    assert shop.main(demo) not in podman.containers()
    assert shop.main(other) in podman.containers()
    [event] = kubernetes.events
    assert (event.reason, event.regarding) == ("BeforeDeleteSkipped", demo.key)
    assert "start" in event.note, "which field does not fit"


async def test_one_that_cannot_be_read_and_is_not_deleted_is_left_alone(
    shop: Shop, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    demo = await shop.ready()
    unreadable(shop, kubernetes, demo)
    assert await shop.resync(demo) is None
    assert podman.log == []
    assert kubernetes.has(make_demo())
