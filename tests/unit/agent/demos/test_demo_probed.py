"""Ready is a fact: demos are probed on as clients ask, and say so within a minute."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.unit.agent.demos.shop import Clock, Shop
from tests.unit.conftest import ADDRESS
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, State
from tryitnow.agent.demos.verdicts import THRESHOLD, Verdict, Verdicts
from tryitnow.agent.demos.watch import PROBE_TIMEOUT, SUSPECT_SECONDS, TICK_SECONDS, Watch
from tryitnow.api.demoinstance import DemoInstancePhase
from tryitnow.api.meta import ConditionStatus, Key
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError

FALSE, TRUE, UNKNOWN = ConditionStatus.FALSE, ConditionStatus.TRUE, ConditionStatus.UNKNOWN


class Watched:
    """A watch over a shop's demos, and what it asked to be looked at."""

    def __init__(self, shop: Shop) -> None:
        self.changed: list[Key] = []
        self.clock = Clock()
        self.watch = Watch(shop.tools, self.changed.append, self.clock)

    async def tick(self, seconds: float = 60.0) -> None:
        """Let time pass, and the probes that are due come to their end."""
        self.clock.wait(seconds)
        before = asyncio.all_tasks()
        await self.watch.tick()
        await asyncio.gather(*(asyncio.all_tasks() - before))


@pytest.fixture
def watched(shop: Shop) -> Watched:
    return Watched(shop)


def test_nothing_dead_is_called_ready_for_longer_than_a_minute() -> None:
    """With the longest PROBE_INTERVAL that the settings take."""
    assert PROBE_TIMEOUT.total is not None
    longest_interval = 20.0
    probes = THRESHOLD * PROBE_TIMEOUT.total + (THRESHOLD - 1) * SUSPECT_SECONDS
    assert longest_interval + probes + THRESHOLD * TICK_SECONDS < 60


async def test_one_that_answers_otherwise_is_not_ready_after_some_probes(
    shop: Shop, watched: Watched, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    demo = await shop.ready()
    podman.answers["/"] = 503
    await watched.tick()
    await watched.tick(SUSPECT_SECONDS)
    assert watched.changed == []
    await watched.tick(SUSPECT_SECONDS)
    assert watched.changed == [demo.key]
    await shop.resync(demo)
    assert shop.ready_of(demo) == (FALSE, "NotAnswering")
    assert shop.seen(demo).status.phase is DemoInstancePhase.NOT_ANSWERING
    output = shop.condition(demo).message
    assert f"http://{ADDRESS}:23000/ answered 503, not 200" in output
    assert "All of its containers run. Its data is kept." in output
    assert kubernetes.reasons() == ["NotAnswering"]
    assert not any("start" in line for line in podman.log), "nobody starts it again for that"


async def test_it_is_ready_again_by_itself(
    shop: Shop, watched: Watched, podman: FakePodman
) -> None:
    demo = await shop.ready()
    podman.answers["/"] = 503
    for _ in range(THRESHOLD):
        await watched.tick()
    await shop.resync(demo)
    del podman.answers["/"]
    await watched.tick(SUSPECT_SECONDS)
    assert watched.changed == [demo.key, demo.key]
    await shop.resync(demo)
    assert shop.ready_of(demo)[0] is TRUE
    assert shop.seen(demo).status.phase is DemoInstancePhase.READY
    assert shop.seen(demo).status.restarts == 0


async def test_one_bad_answer_is_asked_for_again_soon_and_forgiven(
    shop: Shop, watched: Watched, podman: FakePodman
) -> None:
    demo = await shop.ready()
    for _ in range(4):
        podman.answers["/"] = 500
        await watched.tick()
        await watched.tick(SUSPECT_SECONDS)
        podman.answers.clear()
        await watched.tick(SUSPECT_SECONDS)
    assert watched.changed == [demo.key], "that it answers, which nobody knew before"
    assert shop.ready_of(demo)[0] is TRUE


async def test_probes_keep_their_interval(shop: Shop, watched: Watched, podman: FakePodman) -> None:
    await shop.ready()
    interval = shop.tools.settings.probe_interval.total_seconds()
    await watched.tick()
    before = len(podman.requested_paths)
    await watched.tick(interval - 1)
    assert len(podman.requested_paths) == before
    await watched.tick(1)
    assert len(podman.requested_paths) == before + 1


@pytest.mark.parametrize(
    "phase",
    [DemoInstancePhase.STARTING, DemoInstancePhase.RESTARTING, DemoInstancePhase.FAILED],
)
async def test_only_demos_that_are_up_are_probed(
    shop: Shop, watched: Watched, podman: FakePodman, phase: DemoInstancePhase
) -> None:
    shop.ordered(phase=phase, host_port=23000)
    await watched.tick()
    assert podman.requested_paths == []


async def test_one_that_has_no_url_is_not_asked(shop: Shop, watched: Watched) -> None:
    """Found by a seed: the cluster was restored, and a condition written into what was older."""
    shop.ordered(phase=DemoInstancePhase.READY)
    await watched.tick()
    assert watched.changed == []


async def test_what_a_probe_found_before_a_restart_counts_for_nothing(
    shop: Shop, watched: Watched, podman: FakePodman
) -> None:
    demo = await shop.ready()
    podman.delays[shop.main(demo)] = 0.1
    podman.answers["/"] = 500
    probing = asyncio.create_task(watched.tick())
    await asyncio.sleep(0.05)
    restarting = demo.status.model_copy(update={"phase": DemoInstancePhase.RESTARTING})
    shop.node.demos.update(demo.model_copy(update={"status": restarting}))
    await probing
    assert not shop.tools.verdicts.is_suspect(demo.metadata.uid)


async def test_all_that_hang_are_probed_at_once(
    shop: Shop, watched: Watched, podman: FakePodman
) -> None:
    """Or the last of them would be called ready for minutes."""
    demos = [await shop.ready(f"demo-{number}") for number in range(19)]
    for demo in demos:
        podman.delays[shop.main(demo)] = 0.3
    began = asyncio.get_running_loop().time()
    await watched.tick()
    assert asyncio.get_running_loop().time() - began < 0.6


async def test_an_agent_that_was_just_started_calls_nothing_ready_that_it_has_not_asked(
    shop: Shop, podman: FakePodman
) -> None:
    demo = await shop.ready()
    podman.answers["/"] = 503
    shop.fails_to_answer(demo)
    await shop.resync(demo)
    shop.tools.verdicts.forget(demo.metadata.uid)
    await shop.resync(demo)
    assert shop.ready_of(demo) == (FALSE, "NotAnswering")
    shop.answers(demo)
    await shop.resync(demo)
    assert shop.ready_of(demo)[0] is TRUE


async def test_a_demo_that_ran_on_while_its_agent_was_silent_is_ready_again(
    shop: Shop, watched: Watched, kubernetes: FakeKubernetes
) -> None:
    demo = await shop.ready()
    lost = demo.status.with_condition(demo, "Ready", UNKNOWN, "NodeLost", "the node is silent")
    kubernetes.put(demo.model_copy(update={"status": lost}))
    shop.node.demos.update(shop.seen(demo))
    await watched.tick()
    assert watched.changed == [demo.key]
    await shop.resync(demo)
    assert shop.ready_of(demo) == (TRUE, "ColdStart")
    assert shop.seen(demo).status.restarts == 0


async def test_nothing_is_written_about_a_demo_that_is_as_it_was(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    demo = await shop.ready()
    shop.answers(demo)
    kubernetes.writes.clear()
    await shop.resync(demo)
    assert kubernetes.writes == []


# -- where the way to it is broken ----------------------------------------------------------------


async def test_lost_rules_of_the_network_are_set_again(
    shop: Shop, podman: FakePodman, firewall: FakeFirewall
) -> None:
    """It answers inside of its sandbox, and clients get nothing."""
    demo = await shop.ready()
    firewall.states.append(State.OPEN)
    shop.fails_to_answer(demo, "connection refused")
    await shop.resync(demo)
    assert "reload network --all" in podman.log
    assert shop.ready_of(demo) == (FALSE, "NotAnswering")
    assert "the node's rules for its port are lost" in shop.condition(demo).message
    shop.answers(demo)
    await shop.resync(demo)
    assert shop.ready_of(demo)[0] is TRUE


async def test_a_firewall_that_an_interrupted_start_left_closed_is_opened_after_the_hooks(
    shop: Shop, podman: FakePodman, firewall: FakeFirewall
) -> None:
    demo = await shop.ready()
    firewall.states.append(State.CLOSED)
    shop.fails_to_answer(demo, "no answer")
    await shop.resync(demo)
    assert firewall.states[-1] is State.OPEN
    assert len(shop.commands()) == 1
    assert shop.ready_of(demo) == (TRUE, "Restart")
    assert "reload network --all" not in podman.log
    assert shop.is_kept(demo)


async def test_a_firewall_that_cannot_be_checked_hides_nothing(
    shop: Shop, firewall: FakeFirewall
) -> None:
    demo = await shop.ready()
    firewall.fails = True
    shop.fails_to_answer(demo, "no answer")
    await shop.resync(demo)
    assert shop.ready_of(demo) == (FALSE, "NotAnswering")


@pytest.mark.parametrize("error", [PodmanUnreachableError("it hangs"), PodmanError("no")])
async def test_a_podman_that_says_nothing_hides_nothing(
    shop: Shop, podman: FakePodman, error: Exception
) -> None:
    demo = await shop.ready()
    podman.failures["inspect"] = error
    shop.fails_to_answer(demo, "connection refused")
    with pytest.raises(type(error)):
        await shop.resync(demo)
    assert shop.ready_of(demo) == (FALSE, "NotAnswering")
    assert "connection refused" in shop.condition(demo).message


async def test_a_demo_that_nobody_knows_how_to_ask_is_tried_again(
    shop: Shop, watched: Watched, kubernetes: FakeKubernetes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    demo = shop.ordered(phase=DemoInstancePhase.READY, host_port=23000)
    kubernetes.is_down = True
    await watched.tick()
    assert "cannot be probed" in caplog.text
    assert not shop.tools.verdicts.is_suspect(demo.metadata.uid)


# -- verdicts -------------------------------------------------------------------------------------


def test_a_verdict_needs_some_failures_and_one_answer() -> None:
    verdicts = Verdicts()
    assert verdicts.of("uid") is Verdict.UNKNOWN
    assert [verdicts.note("uid", f"answer {n}") for n in range(4)] == [False, False, True, False]
    assert verdicts.of("uid") is Verdict.SILENT
    assert verdicts.answer_of("uid") == "answer 3", "the newest"
    assert verdicts.not_answering == 1
    assert verdicts.note("uid", None)
    assert verdicts.of("uid") is Verdict.ANSWERS
    assert not verdicts.note("uid", None)
    verdicts.forget("uid")
    assert verdicts.of("uid") is Verdict.UNKNOWN
