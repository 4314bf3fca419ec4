"""The ladder: a warm sandbox, else a restore, else a cold start; each reached by breaking the one
above it. And what becomes of a demo of which no start succeeds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.agent.demos.kept import Kept
from tests.unit.agent.demos.shop import RENAME, Shop, shop_definition
from tests.unit.builders import PINNED, make_archive, make_demo, pinned
from tests.unit.conftest import ADDRESS
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, State
from tryitnow.agent.approvals import Approvals
from tryitnow.agent.demos.reconcile import MAX_STARTS
from tryitnow.agent.node import Node
from tryitnow.agent.revisions import Revisions
from tryitnow.agent.upkeep.garbage import collect
from tryitnow.api.archive import Versions
from tryitnow.api.demoinstance import (
    DemoInstance,
    DemoInstancePhase,
    FallbackReason,
    StartedBy,
    StartPolicy,
)
from tryitnow.api.meta import ConditionStatus
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.podman.client import Executed, PullPolicy
from tryitnow.podman.errors import (
    CRIUError,
    ImagePullError,
    NodeLimitError,
    PodmanError,
    PodmanUnreachableError,
)

FALSE, TRUE, UNKNOWN = ConditionStatus.FALSE, ConditionStatus.TRUE, ConditionStatus.UNKNOWN


@pytest.fixture
def kept(shop: Shop) -> Kept:
    return Kept(shop)


async def started(shop: Shop, policy: StartPolicy = StartPolicy.PREFER_RESTORE) -> DemoInstance:
    demo = shop.ordered(start=policy)
    await shop.resync(demo)
    return shop.seen(demo)


def nothing_is_left(shop: Shop, demo: DemoInstance) -> bool:
    return not any("_demo_" in name for name in shop.podman.containers()) and not (
        shop.node.ports.of(shop.main(demo))
    )


# -- restored -------------------------------------------------------------------------------------


async def test_it_is_restored_and_clients_come_in_after_its_hooks(
    shop: Shop, kept: Kept, firewall: FakeFirewall, kubernetes: FakeKubernetes
) -> None:
    await kept.keep()
    demo = await started(shop)
    assert demo.status.started_by is StartedBy.RESTORE
    assert shop.ready_of(demo) == (TRUE, "Restore")
    assert demo.status.phase is DemoInstancePhase.READY
    assert demo.status.url == f"http://{ADDRESS}:{demo.status.host_port}"
    assert demo.status.fallback_reason is None
    assert demo.has_finalizer
    assert shop.commands() == [RENAME]
    assert State.OPEN in firewall.states
    assert kubernetes.reasons()[-1] == "Ready"
    timings = demo.status.timings
    assert timings is not None
    assert None not in {timings.queue, timings.restore, timings.criu, timings.probe, timings.hooks}


async def test_a_warm_sandbox_is_taken_as_it_is(shop: Shop, kept: Kept, podman: FakePodman) -> None:
    await kept.keep(warm=1)
    podman.log.clear()
    demo = await started(shop)
    assert demo.status.started_by is StartedBy.WARM
    assert not any(line.startswith("restore prepared") for line in podman.log[:20])
    assert demo.status.timings is not None
    assert demo.status.timings.claim is not None
    assert podman.state(shop.main(demo)).ports[0].host_port == demo.status.host_port
    assert shop.node.ports.of(shop.main(demo)) == [demo.status.host_port]
    assert shop.commands() == [RENAME]


async def test_a_paused_one_goes_on_when_it_is_taken(
    shop: Shop, kept: Kept, podman: FakePodman
) -> None:
    await kept.keep(warm=1, pause=True)
    demo = await started(shop)
    assert demo.status.started_by is StartedBy.WARM
    assert podman.state(shop.main(demo)).running


async def test_a_warm_sandbox_that_ended_leaves_the_restore(
    shop: Shop, kept: Kept, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    await kept.keep(warm=1)
    [name] = [n for n in podman.containers() if "_warm_" in n]
    podman.stop(name)
    demo = await started(shop)
    assert demo.status.started_by is StartedBy.RESTORE
    assert demo.status.timings is not None
    assert demo.status.timings.claim is not None, "what was lost is part of what it took"
    assert "WarmSandboxUnfit" in kubernetes.reasons()
    assert name not in podman.containers()


async def test_what_an_interrupted_start_left_costs_no_warm_sandbox(
    shop: Shop, kept: Kept, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    """B13: its container runs, and the name that a warm one is to get is taken."""
    await kept.keep(warm=2)
    warm = {name for name in podman.containers() if "_warm_" in name}
    demo = await started(shop)
    interrupted = demo.status.model_copy(
        update={"ready_at": None, "phase": DemoInstancePhase.STARTING, "ports": ()}
    )
    shop.node.demos.update(kubernetes.put(demo.model_copy(update={"status": interrupted})))
    await shop.resync(demo)
    assert shop.seen(demo).status.started_by is StartedBy.WARM
    assert "WarmSandboxUnfit" not in kubernetes.reasons()
    assert len(warm & set(podman.containers())) <= 1


async def test_a_look_at_garbage_in_the_middle_of_a_claim_takes_nothing(
    shop: Shop, kept: Kept, podman: FakePodman
) -> None:
    await kept.keep(warm=1)
    demo = shop.ordered()
    podman.delay["rename"] = 0.1
    starting = asyncio.create_task(shop.resync(demo))
    await asyncio.sleep(0.05)
    await collect(shop.node)
    await starting
    assert shop.seen(demo).status.started_by is StartedBy.WARM
    assert shop.node.ports.of(shop.main(demo)) == [shop.seen(demo).status.host_port]


async def test_two_who_come_at_once_get_two(shop: Shop, kept: Kept, podman: FakePodman) -> None:
    await kept.keep(warm=1)
    demos = [shop.ordered("annas-demo"), shop.ordered("bens-demo")]
    await asyncio.gather(*(shop.resync(demo) for demo in demos))
    methods = {shop.seen(demo).status.started_by for demo in demos}
    assert methods == {StartedBy.WARM, StartedBy.RESTORE}
    ports = {shop.seen(demo).status.host_port for demo in demos}
    assert len(ports) == 2
    assert all(podman.state(shop.main(demo)).running for demo in demos)


# -- started cold ---------------------------------------------------------------------------------


async def test_a_restore_that_fails_leaves_the_cold_start(
    shop: Shop, kept: Kept, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    await kept.keep()
    podman.failures["restore prepared"] = CRIUError("CRIU refused", "a log")
    demo = await started(shop)
    assert demo.status.started_by is StartedBy.COLD_START
    assert demo.status.fallback_reason is FallbackReason.RESTORE_FAILED
    assert demo.status.fallback_message is not None
    assert "CRIU refused" in demo.status.fallback_message
    assert "CRIU refused" in shop.condition(demo).message
    assert "ColdStartFallback" in kubernetes.reasons()
    assert demo.status.timings is not None
    assert demo.status.timings.fallback is not None
    actor = shop.node.checkpoints.get(kept.key)
    assert actor is not None
    assert actor.state.restore_failures == 1


async def test_a_hook_that_fails_after_a_restore_leaves_the_cold_start(
    shop: Shop, kept: Kept, podman: FakePodman
) -> None:
    await kept.keep()
    podman.outcomes = [Executed(3, "no such table")]
    demo = await started(shop)
    assert demo.status.started_by is StartedBy.COLD_START
    assert demo.status.fallback_reason is FallbackReason.HOOK_FAILED


async def test_a_restored_one_that_does_not_answer_leaves_the_cold_start(
    shop: Shop, kept: Kept, podman: FakePodman
) -> None:
    shop.defined(shop_definition(timedelta(seconds=0.3)))
    await kept.keep()
    podman.restored_status = 503
    demo = await started(shop)
    assert demo.status.started_by is StartedBy.COLD_START
    assert demo.status.fallback_reason is FallbackReason.RESTORE_NOT_READY


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (OSError(28, "No space left on device"), "DiskFull"),
        (NodeLimitError("io_setup", limit="AioExhausted", remedy="raise it"), "AioExhausted"),
    ],
)
async def test_what_is_the_nodes_fault_is_not_held_against_the_archive(
    shop: Shop, kept: Kept, podman: FakePodman, error: Exception, limit: str
) -> None:
    actor = await kept.keep()
    podman.failures["restore prepared"] = error
    demo = await started(shop)
    assert demo.status.fallback_reason is FallbackReason.NODE_LIMIT
    assert demo.status.fallback_message is not None
    assert limit in demo.status.fallback_message
    assert actor.state.restore_failures == 0
    assert actor.is_ready


@pytest.mark.parametrize("policy", list(StartPolicy))
async def test_no_demo_is_started_of_a_registry_that_is_not_allowed_any_more(
    shop: Shop, kept: Kept, node: Node, kubernetes: FakeKubernetes, policy: StartPolicy
) -> None:
    await kept.keep(warm=1)
    strict = Revisions(kubernetes, Approvals(node.settings.revisions_path), ("allowed.example",))
    tools = node.demo_tools
    tools.revisions.expect_allowed = strict.expect_allowed  # type: ignore[method-assign]
    demo = await started(shop, policy)
    assert shop.ready_of(demo)[1] == "RegistryNotAllowed"
    assert "agent.images.allowedRegistries: allowed.example" in shop.condition(demo).message
    assert nothing_is_left(shop, demo)


async def test_who_wants_a_cold_start_gets_one(shop: Shop, kept: Kept, podman: FakePodman) -> None:
    await kept.keep(warm=1)
    demo = await started(shop, StartPolicy.COLD_START)
    assert demo.status.started_by is StartedBy.COLD_START
    assert demo.status.fallback_reason is None
    assert "because spec.start is ColdStart" in shop.condition(demo).message
    images = {PINNED, pinned("registry.example/db:1")}
    assert {(name, policy) for name, policy, _ in podman.pulls} == {
        (image, PullPolicy.MISSING) for image in images
    }


async def test_without_criu_it_starts_cold_and_says_why(shop: Shop, node: Node) -> None:
    node.health.current = replace(
        node.health.current, criu_available=False, criu_message="no criu here"
    )
    demo = await started(shop)
    assert demo.status.fallback_reason is FallbackReason.CRIU_NOT_AVAILABLE
    assert demo.status.fallback_message is not None
    assert "no criu here" in demo.status.fallback_message


async def test_on_a_processor_that_cannot_run_the_checkpoint_it_starts_cold_and_says_why(
    shop: Shop,
) -> None:
    """No NodeCheckpoint is here: the controller sends none."""
    archive = make_archive(versions=Versions(cpu_features=("avx", "avx512f", "fxsr", "xsave")))
    status = shop.revision.status.model_copy(update={"archive": archive})
    shop.kubernetes.put(shop.revision.model_copy(update={"status": status}))
    demo = await started(shop)
    assert demo.status.fallback_reason is FallbackReason.NODE_LIMIT
    assert demo.status.fallback_message is not None
    assert "lacks avx512f" in demo.status.fallback_message
    assert "nodeSelector" in demo.status.fallback_message


# -- restore or nothing ---------------------------------------------------------------------------


async def test_who_wants_a_restore_only_gets_no_cold_start(
    shop: Shop, kept: Kept, podman: FakePodman
) -> None:
    await kept.keep()
    podman.failures["restore prepared"] = CRIUError("CRIU refused", "a log")
    demo = shop.ordered(start=StartPolicy.RESTORE_ONLY)
    for _ in range(MAX_STARTS):
        shop.clock.wait(await shop.resync(demo) or 0)
    assert shop.ready_of(demo) == (FALSE, "RestoreFailed")
    assert shop.condition(demo, "Stalled").status is TRUE
    assert nothing_is_left(shop, demo)


@pytest.mark.parametrize("limited", [False, True], ids=["not here yet", "full disk"])
async def test_who_wants_a_restore_only_waits_for_what_passes(
    shop: Shop, kept: Kept, podman: FakePodman, *, limited: bool
) -> None:
    if limited:
        await kept.keep()
        podman.failures["restore prepared"] = OSError(28, "No space left on device")
    demo = shop.ordered(start=StartPolicy.RESTORE_ONLY)
    for _ in range(3 * MAX_STARTS):
        wait = await shop.resync(demo)
        assert wait is not None, "it is not given up"
        shop.clock.wait(wait)
    assert shop.ready_of(demo) == (FALSE, "DiskFull" if limited else "NotReadyHere")
    podman.failures.clear()
    if not limited:
        await kept.keep()
    await shop.resync(demo)
    assert shop.ready_of(demo) == (TRUE, "Restore")


# -- starts that fail -----------------------------------------------------------------------------


async def test_one_that_never_answers_is_given_up_with_its_last_words(
    shop: Shop, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    shop.defined(shop_definition(timedelta(seconds=0.1)))
    podman.cold_status = 500
    podman.last_lines = "no database host is set"
    demo = shop.ordered()
    for number in range(1, MAX_STARTS + 1):
        wait = await shop.resync(demo)
        assert (wait is None) is (number == MAX_STARTS)
        shop.clock.wait(wait or 0)
    assert shop.ready_of(demo) == (FALSE, "ApplicationNotReady")
    text = shop.condition(demo).message
    assert "no database host is set" in text
    assert f"Given up after {MAX_STARTS} tries." in text
    assert shop.seen(demo).status.phase is DemoInstancePhase.FAILED
    assert nothing_is_left(shop, demo)
    assert kubernetes.reasons()[-1] == "ApplicationNotReady"
    assert await shop.resync(demo) is None, "it is not tried again by itself"


async def test_limits_and_missing_things_use_up_no_tries(shop: Shop, podman: FakePodman) -> None:
    """B2's kind: given up after "3 tries", of which one was the application's."""
    demo = shop.ordered()
    full = NodeLimitError("no space left on device", limit="DiskFull", remedy="make room")
    for error in (full, full, ImagePullError("no such image"), ImagePullError("no such image")):
        podman.failures["pull"] = error
        wait = await shop.resync(demo)
        assert wait is not None
        shop.clock.wait(wait)
    podman.failures = {"create container": PodmanError("crun: no")}
    assert await shop.resync(demo) is not None
    assert "Given up" not in shop.condition(demo).message


async def test_a_full_disk_is_reported_and_waited_for(
    shop: Shop, node: Node, monkeypatch: pytest.MonkeyPatch, kubernetes: FakeKubernetes
) -> None:
    """B8."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(node.volumes, "make", full)
        demo = shop.ordered()
        for _ in range(2 * MAX_STARTS):
            shop.clock.wait(await shop.resync(demo) or 0)
        assert shop.ready_of(demo) == (FALSE, "DiskFull")
        assert "the disk is full" in shop.condition(demo).message
        assert "MiB are free at" in shop.condition(demo).message
        assert kubernetes.reasons().count("DiskFull") == 1
    await shop.resync(demo)
    assert shop.ready_of(demo)[0] is TRUE


async def test_a_podman_that_is_away_is_reported_and_uses_up_no_tries(
    shop: Shop, podman: FakePodman
) -> None:
    demo = shop.ordered()
    podman.failures["create pod"] = PodmanUnreachableError("the service does not answer")
    for _ in range(2 * MAX_STARTS):
        with pytest.raises(PodmanUnreachableError):
            await shop.resync(demo)
    assert shop.ready_of(demo) == (FALSE, "PodmanUnreachable")
    podman.failures.clear()
    await shop.resync(demo)
    assert shop.ready_of(demo)[0] is TRUE


async def test_nothing_is_started_while_the_storage_is_not_what_it_was(
    shop: Shop, podman: FakePodman
) -> None:
    shop.node.guard.seen_containers(listed=0, ready_demos=1)
    demo = shop.ordered()
    assert await shop.resync(demo) is not None
    assert shop.ready_of(demo) == (UNKNOWN, "StorageChanged")
    assert "Its data is kept" not in shop.condition(demo).message, "it has none"
    assert podman.pods == {}
    shop.node.guard.seen_containers(listed=1, ready_demos=1)
    await shop.resync(demo)
    assert shop.ready_of(demo)[0] is TRUE


async def test_an_api_server_that_is_away_in_the_middle_leaves_nothing_behind(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    demo = shop.ordered()
    kubernetes.refusals["PATCH", "demoinstances"] = KubernetesError("it does not answer")
    with pytest.raises(KubernetesError):
        await shop.resync(demo)
    assert nothing_is_left(shop, demo)


# -- deleted, or another one, meanwhile -----------------------------------------------------------


async def test_one_that_is_deleted_before_it_is_held_leaves_nothing(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    demo = shop.ordered()
    kubernetes.vanish(demo)
    assert await shop.resync(demo) is None
    assert nothing_is_left(shop, demo)


@pytest.mark.parametrize("seen", [False, True], ids=["not seen yet", "seen"])
async def test_a_namesake_is_left_untouched(
    shop: Shop, kubernetes: FakeKubernetes, podman: FakePodman, *, seen: bool
) -> None:
    """B14: deleted and made anew while the first one is being started."""
    demo = shop.ordered()
    podman.delay["create container"] = 0.05
    starting = asyncio.create_task(shop.resync(demo))
    await asyncio.sleep(0.02)
    kubernetes.vanish(demo)
    namesake = kubernetes.put(make_demo(uid="0" * 32))
    if seen:
        shop.node.demos.forget(demo.key)
        shop.node.demos.update(namesake)
    # The start itself has ended, or the API server refuses what is written about it.
    await asyncio.gather(starting, return_exceptions=True)
    assert kubernetes.find(namesake) == namesake
    if seen:
        assert nothing_is_left(shop, demo)


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.02, 0.05, 0.1])
async def test_a_start_that_is_cancelled_leaves_nothing(
    shop: Shop, kept: Kept, podman: FakePodman, moment: float
) -> None:
    """A deletion interrupts it."""
    await kept.keep(warm=1)
    podman.delay |= {"rename": 0.02, "restore prepared": 0.02, "exec": 0.1, "inspect": 0.005}
    demo = shop.ordered()
    starting = asyncio.create_task(shop.resync(demo))
    await asyncio.sleep(moment)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert nothing_is_left(shop, demo)
