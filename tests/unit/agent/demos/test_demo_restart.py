"""A demo whose container ended: its files are kept, and it is started again by the same path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.agent.demos.shop import DB_READY, DROP, RENAME, Shop, shop_definition
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, FakeHosts, State
from tryitnow.api.checkpoint import OnCrash
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, StartedBy
from tryitnow.api.meta import ConditionStatus
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.podman.client import Executed
from tryitnow.podman.errors import NodeLimitError, PodmanError, PodmanUnreachableError

FALSE, TRUE, UNKNOWN = ConditionStatus.FALSE, ConditionStatus.TRUE, ConditionStatus.UNKNOWN


def port_taken() -> NodeLimitError:
    return NodeLimitError(
        "rootlessport listen tcp 0.0.0.0:23000: bind: address already in use",
        limit="PortTaken",
        remedy="end what listens there",
    )


def nothing_was_removed(shop: Shop, demo: DemoInstance) -> bool:
    return shop.is_kept(demo) and not any("remove" in line for line in shop.podman.log)


async def test_it_is_ready_again_with_its_files_at_the_same_url(shop: Shop) -> None:
    before = await shop.ready()
    shop.crash(before)
    assert await shop.resync(before) is None
    after = shop.seen(before)
    assert nothing_was_removed(shop, before)
    assert shop.ready_of(before) == (TRUE, "Restart")
    assert (after.status.url, after.status.ports) == (before.status.url, before.status.ports)
    assert after.status.phase is DemoInstancePhase.READY
    assert after.status.started_by is StartedBy.RESTART
    assert after.status.restarts == 1
    assert after.status.ready_at == before.status.ready_at
    timings = after.status.timings
    assert timings is not None
    assert timings.restart is not None
    assert timings.bind is None, "nobody chose a node for it again"


async def test_people_are_reported_what_ended_and_that_the_data_is_kept(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    demo = await shop.ready()
    shop.crash(demo, 139)
    await shop.resync(demo)
    [down, ready] = kubernetes.events
    assert (down.reason, down.is_warning) == ("Restarting", True)
    assert down.note == (
        "its main container ended with exit code 139. It is started again. Its data is kept."
    )
    assert ready.reason == "Ready"


async def test_the_database_is_up_before_the_shop_begins(shop: Shop, podman: FakePodman) -> None:
    demo = await shop.ready()
    podman.reboot()
    await shop.resync(demo)
    steps = [line for line in podman.log if line.split()[0] in {"start", "exec"}]
    assert steps == [
        f"start infra {shop.pod(demo)}",
        f"start {shop.database(demo)}",
        f"exec {shop.database(demo)}",
        f"start {shop.main(demo)}",
        f"exec {shop.main(demo)}",
    ]
    assert podman.executed[0][1] == DB_READY


async def test_no_client_comes_in_before_the_hooks_have_run(
    shop: Shop, podman: FakePodman, firewall: FakeFirewall, hosts: FakeHosts
) -> None:
    demo = await shop.ready()
    shop.crash(demo)
    podman.outcomes = [Executed(0, ""), Executed(1, "the database is locked")]
    await shop.resync(demo)
    assert firewall.states == [State.CLOSED], "the hook failed: it stays closed"
    assert shop.ready_of(demo) == (FALSE, "HookFailed")
    shop.clock.wait(10)
    await shop.resync(demo)
    assert firewall.states == [State.CLOSED, State.CLOSED, State.OPEN]
    assert shop.commands() == [RENAME, RENAME]
    started_by = {env["TRYITNOW_STARTED_BY"] for _, what, env in podman.executed if what == RENAME}
    assert started_by == {"Restart"}
    assert hosts.names[-1] == "annas-demo"
    assert hosts.files[-1] == "annas-demo"


async def test_a_hook_that_fails_is_not_run_again_at_once(shop: Shop, podman: FakePodman) -> None:
    """What is written about it comes back as an event, and has the demo looked at at once."""
    demo = await shop.ready()
    shop.crash(demo)
    podman.outcomes = [Executed(0, ""), Executed(1, "the database is locked")]
    wait = await shop.resync(demo)
    assert wait is not None
    assert wait >= timedelta(seconds=5)
    assert await shop.resync(demo) is not None
    assert shop.commands() == [RENAME]
    assert nothing_was_removed(shop, demo)


@pytest.mark.parametrize(
    "call", ["start infra", "start", "init"],
)  # fmt: skip
async def test_a_podman_that_refuses_is_asked_again_and_nothing_goes(
    shop: Shop, podman: FakePodman, call: str
) -> None:
    demo = await shop.ready()
    podman.reboot()
    podman.failures[call] = PodmanError("crun: something is wrong")
    for _ in range(8):
        wait = await shop.resync(demo)
        assert wait is not None
        shop.clock.wait(wait)
    assert shop.ready_of(demo) == (FALSE, "RestartFailed")
    assert "Its data is kept." in shop.condition(demo).message
    assert shop.seen(demo).status.phase is DemoInstancePhase.RESTARTING
    del podman.failures[call]
    await shop.resync(demo)
    assert shop.ready_of(demo) == (TRUE, "Restart")
    assert nothing_was_removed(shop, demo)


@pytest.mark.parametrize("call", ["start", "inspect", "inspect pod", "start infra"])
async def test_a_podman_that_is_away_costs_nothing(
    shop: Shop, podman: FakePodman, call: str
) -> None:
    """B3: a Podman that is restarted in the middle of a start."""
    demo = await shop.ready()
    shop.crash(demo)
    podman.failures[call] = PodmanUnreachableError("the service broke off")
    for _ in range(2):
        with pytest.raises(PodmanUnreachableError):
            await shop.resync(demo)
    del podman.failures[call]
    await shop.resync(demo)
    assert shop.ready_of(demo) == (TRUE, "Restart")
    assert nothing_was_removed(shop, demo)


async def test_a_port_that_another_process_has_is_waited_for(
    shop: Shop, podman: FakePodman
) -> None:
    before = await shop.ready()
    podman.reboot()
    podman.failures["start infra"] = port_taken()
    for _ in range(6):
        wait = await shop.resync(before)
        assert wait is not None
        assert wait <= timedelta(seconds=18), "it ends at any moment"
        shop.clock.wait(wait)
    assert shop.ready_of(before) == (FALSE, "PortTaken")
    assert "end what listens there" in shop.condition(before).message
    podman.failures.clear()
    await shop.resync(before)
    assert shop.ready_of(before) == (TRUE, "Restart")
    assert shop.seen(before).status.url == before.status.url
    assert nothing_was_removed(shop, before)


async def test_a_full_disk_is_named_and_waited_for(shop: Shop, podman: FakePodman) -> None:
    demo = await shop.ready()
    shop.crash(demo)
    podman.failures["start"] = OSError(28, "No space left on device")
    await shop.resync(demo)
    assert shop.ready_of(demo) == (FALSE, "DiskFull")
    assert nothing_was_removed(shop, demo)


async def test_a_start_that_takes_longer_than_its_time_goes_on(
    shop: Shop, podman: FakePodman
) -> None:
    """A database that recovers for twenty seconds, three times as long as readiness.timeout."""
    shop.defined(shop_definition(timedelta(seconds=0.2)))
    demo = await shop.ready()
    podman.cold_status = 503
    shop.crash(demo)
    for _ in range(3):
        assert await shop.resync(demo) is not None
        assert shop.ready_of(demo) == (FALSE, "Restarting")
        assert "answered 503" in shop.condition(demo).message
    assert podman.log.count(f"start {shop.main(demo)}") == 1, "it is not started from the beginning"
    podman.answers["/"] = 200
    await shop.resync(demo)
    assert shop.ready_of(demo) == (TRUE, "Restart")
    assert nothing_was_removed(shop, demo)


async def test_a_member_that_ended_is_started_and_the_others_are_left(
    shop: Shop, podman: FakePodman
) -> None:
    demo = await shop.ready()
    podman.stop(shop.database(demo))
    await shop.resync(demo)
    assert f"start {shop.database(demo)}" in podman.log
    assert f"start {shop.main(demo)}" not in podman.log
    assert shop.ready_of(demo) == (TRUE, "Restart")


async def test_a_member_that_somebody_removed_is_missed(
    shop: Shop, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    """``podman container prune`` takes a container that has ended, before it is started again."""
    demo = await shop.ready()
    await podman.remove(shop.database(demo))
    podman.log.clear()
    assert await shop.resync(demo) is not None
    assert "container db is gone" in kubernetes.events[0].note
    assert shop.ready_of(demo) == (FALSE, "RestartFailed")
    assert nothing_was_removed(shop, demo)


async def test_a_container_that_somebody_paused_has_not_ended(
    shop: Shop, podman: FakePodman
) -> None:
    demo = await shop.ready()
    await podman.pause(shop.main(demo))
    await shop.resync(demo)
    assert shop.ready_of(demo)[0] is TRUE


async def test_twelve_that_ended_at_once_all_come_back(shop: Shop, podman: FakePodman) -> None:
    demos = [await shop.ready(f"demo-{number}") for number in range(12)]
    urls = {shop.seen(demo).status.url for demo in demos}
    podman.reboot()
    podman.delay["start"] = 0.01
    await asyncio.gather(*(shop.resync(demo) for demo in demos))
    assert {shop.ready_of(demo) for demo in demos} == {(TRUE, "Restart")}
    assert all(nothing_was_removed(shop, demo) for demo in demos)
    assert {shop.seen(demo).status.url for demo in demos} == urls
    assert len(urls) == 12


async def test_an_api_server_that_is_away_does_not_keep_it_down(
    shop: Shop, kubernetes: FakeKubernetes, podman: FakePodman, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = await shop.ready()
    shop.crash(demo)
    away = KubernetesError("the API server does not answer")
    kubernetes.refusals["PATCH", "demoinstances/status"] = away
    written_once = "tryitnow.agent.demos.status.write_with_retry"
    monkeypatch.setattr(written_once, lambda write: write())
    with pytest.raises(KubernetesError):
        await shop.resync(demo)
    assert podman.state(shop.main(demo)).running
    assert await shop.resync(demo) is None, "it runs: nothing is counted twice"
    kubernetes.refusals.clear()
    shop.crash(demo)
    await shop.resync(demo)
    assert "the 2. time in a row" in kubernetes.events[-1].note
    assert nothing_was_removed(shop, demo)


async def test_the_definition_is_the_one_it_was_started_from(
    shop: Shop, podman: FakePodman
) -> None:
    """Whatever the Checkpoint says by now: here it would never be ready in time."""
    demo = await shop.ready()
    shop.defined(shop_definition(timedelta(seconds=0.01)))
    podman.delays[shop.main(demo)] = 0.1
    shop.crash(demo)
    await shop.resync(demo)
    assert shop.ready_of(demo) == (TRUE, "Restart")


@pytest.mark.parametrize("runs", [True, False])
async def test_a_demo_whose_definition_is_gone_is_not_called_ready(
    shop: Shop,
    kubernetes: FakeKubernetes,
    next_agent: Callable[[], Awaitable[None]],
    *,
    runs: bool,
) -> None:
    demo = await shop.ready()
    await kubernetes.delete(shop.revision)
    await next_agent()
    if not runs:
        shop.crash(demo)
    assert await shop.resync(demo) is not None
    assert shop.ready_of(demo) == (UNKNOWN if runs else FALSE, "RevisionGone")
    assert nothing_was_removed(shop, demo)


# -- DataLost -------------------------------------------------------------------------------------


async def test_a_demo_that_was_removed_by_hand_starts_afresh_and_says_so(
    shop: Shop, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    other = await shop.ready("bens-demo")
    before = await shop.ready()
    await podman.remove_pod(shop.pod(before))
    assert await shop.resync(before) == timedelta()
    assert shop.ready_of(before) == (FALSE, "DataLost")
    assert kubernetes.reasons() == ["DataLost"]
    await shop.resync(before)
    after = shop.seen(before)
    assert shop.ready_of(before)[0] is TRUE
    assert shop.condition(before, "DataLost").status is TRUE, "it stays for those who wonder"
    assert (after.status.url, after.status.resets) == (before.status.url, 1)
    assert not shop.is_kept(before)
    assert shop.is_kept(other)
    await shop.resync(shop.ask_for_reset(after))
    assert shop.condition(before, "DataLost").status is FALSE, "a person threw it away"


async def test_without_sandbox_and_revision_nobody_says_that_its_data_is_kept(
    shop: Shop,
    podman: FakePodman,
    kubernetes: FakeKubernetes,
    next_agent: Callable[[], Awaitable[None]],
) -> None:
    demo = await shop.ready()
    await kubernetes.delete(shop.revision)
    await next_agent()
    await podman.remove_pod(shop.pod(demo))
    await shop.resync(demo)
    assert shop.ready_of(demo) == (FALSE, "RevisionGone")
    assert "kept" not in shop.condition(demo).message
    assert "its data" in shop.condition(demo).message


async def test_the_port_of_a_demo_that_starts_afresh_goes_to_nobody_else(
    shop: Shop, podman: FakePodman
) -> None:
    """Found by a seed: a pre-created sandbox took it, and the demo never came back."""
    await shop.ready("bens-demo")
    demo = await shop.ready()
    await podman.remove_pod(shop.pod(demo))
    await shop.resync(demo)
    shop.node.ports.release(shop.main(demo))
    assert shop.seen(demo).status.host_port not in {
        shop.node.ports.take(f"owner-{n}", [8080])[0].host_port
        for n in range(shop.node.ports.limit - 2)
    }
    await shop.resync(demo)
    assert shop.ready_of(demo)[0] is TRUE


async def test_a_podman_that_lists_nothing_has_lost_nobodys_data(
    shop: Shop, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    """security.md 3: also before the next look at all that nobody owns."""
    demos = [await shop.ready(), await shop.ready("bens-demo")]
    letters = [shop.letter(demo) for demo in demos]
    bring_back = podman.lose_all()
    for demo in demos:
        assert await shop.resync(demo) is not None
        assert shop.ready_of(demo) == (UNKNOWN, "StorageChanged")
        assert "confirm-storage node-a" in shop.condition(demo).message
    assert all(letter.exists() for letter in letters)
    assert "DataLost" not in kubernetes.reasons()
    bring_back()
    for demo in demos:
        await shop.resync(demo)
        shop.answers(demo)
        await shop.resync(demo)
        assert shop.ready_of(demo)[0] is TRUE
        assert shop.is_kept(demo)


async def test_a_storage_that_comes_back_while_it_is_examined_has_lost_nobodys_data(
    shop: Shop, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    """Found by a seed: the demo was looked for in one storage, and the other one examined."""
    demo = await shop.ready()
    bring_back = podman.lose_all()
    examine = shop.tools.examine_storage

    async def comes_back() -> str | None:
        bring_back()
        return await examine()

    shop.tools = replace(shop.tools, examine_storage=comes_back)
    assert await shop.resync(demo) == timedelta()
    assert "DataLost" not in kubernetes.reasons()
    assert shop.seen(demo).was_ready
    assert shop.is_kept(demo)


# -- onCrash: Reset -------------------------------------------------------------------------------


async def test_who_wants_a_fresh_demo_after_a_crash_gets_one_at_the_same_url(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    before = await shop.ready(on_crash=OnCrash.RESET)
    before = kubernetes.put(
        before.model_copy(
            update={"status": before.status.model_copy(update={"on_crash": OnCrash.RESET})}
        )
    )
    shop.node.demos.update(before)
    shop.crash(before)
    while not shop.seen(before).status.resets or not shop.seen(before).was_ready:
        await shop.resync(before)
    after = shop.seen(before)
    assert after.status.url == before.status.url
    assert not shop.is_kept(before)
    assert kubernetes.reasons().count("Reset") == 1


async def test_a_fresh_demo_that_ends_each_time_is_replaced_after_growing_pauses(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    demo = await shop.ready()
    demo = kubernetes.put(
        demo.model_copy(
            update={"status": demo.status.model_copy(update={"on_crash": OnCrash.RESET})}
        )
    )
    shop.node.demos.update(demo)
    pauses = []
    for resets in range(1, 5):
        shop.crash(demo)
        paused = timedelta()
        while shop.seen(demo).status.resets < resets or not shop.seen(demo).was_ready:
            assert shop.ready_of(demo)[0] is FALSE or not paused
            if wait := await shop.resync(demo):
                paused += wait
                shop.clock.wait(wait)
        pauses.append(paused.total_seconds())
    assert pauses[0] == 0
    assert 5 <= pauses[1] < 10 <= pauses[2] < 20 <= pauses[3]
    assert DROP not in shop.commands(), "its containers had ended"
