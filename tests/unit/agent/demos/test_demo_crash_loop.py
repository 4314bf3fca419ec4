"""A demo that ends again and again: started after growing pauses, and never Ready meanwhile."""

from __future__ import annotations

import re
from datetime import timedelta

from tests.unit.agent.demos.shop import Shop
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.metrics.scrape import scrape
from tryitnow.api.demoinstance import DemoInstancePhase
from tryitnow.api.meta import ConditionStatus
from tryitnow.podman.errors import NodeLimitError, PodmanError

FALSE, TRUE = ConditionStatus.FALSE, ConditionStatus.TRUE


async def test_one_that_ends_within_its_pause_is_not_called_ready(shop: Shop) -> None:
    """B1."""
    demo = await shop.ready()
    shop.crash(demo)
    await shop.resync(demo)
    assert shop.ready_of(demo) == (TRUE, "Restart")
    shop.crash(demo)
    wait = await shop.resync(demo)
    assert wait is not None
    assert shop.ready_of(demo) == (FALSE, "CrashLoop")
    assert shop.seen(demo).status.phase is DemoInstancePhase.RESTARTING
    text = shop.condition(demo).message
    assert re.search(r"the 2\. time in a row\. It is started again in [56] s", text)


async def test_the_pauses_grow_and_no_look_in_between_starts_it(
    shop: Shop, podman: FakePodman
) -> None:
    demo = await shop.ready()
    pauses = []
    for _ in range(6):
        shop.crash(demo)
        pause = timedelta()
        while wait := await shop.resync(demo):
            assert shop.ready_of(demo)[0] is FALSE
            started = podman.log.count(f"start {shop.main(demo)}")
            shop.clock.wait(wait - timedelta(seconds=1))
            assert await shop.resync(demo) is not None, "an event comes before the pause is over"
            assert podman.log.count(f"start {shop.main(demo)}") == started
            shop.clock.wait(1.1)
            pause += wait
        assert shop.ready_of(demo) == (TRUE, "Restart")
        pauses.append(pause.total_seconds())
    assert pauses[0] == 0, "the first time it is started at once"
    assert 5 <= pauses[1] < 10 <= pauses[2] < 20 <= pauses[3] < 40 <= pauses[4]
    assert shop.is_kept(demo)


async def test_one_that_ran_well_for_ten_minutes_starts_at_once_again(shop: Shop) -> None:
    demo = await shop.ready()
    for _ in range(3):
        shop.crash(demo)
        while wait := await shop.resync(demo):
            shop.clock.wait(wait)
    shop.clock.wait(timedelta(minutes=11))
    shop.crash(demo)
    assert await shop.resync(demo) is None
    assert shop.ready_of(demo) == (TRUE, "Restart")


async def test_ends_do_not_use_up_the_tries_of_a_start(
    shop: Shop, podman: FakePodman, kubernetes: FakeKubernetes
) -> None:
    """B2: two ends in ten minutes, then one start that fails."""
    demo = await shop.ready()
    for _ in range(3):
        shop.crash(demo)
        while wait := await shop.resync(demo):
            shop.clock.wait(wait)
    shop.crash(demo)
    podman.failures["start"] = PodmanError("crun: something is wrong")
    for _ in range(9):
        shop.clock.wait(await shop.resync(demo) or 0)
    assert shop.seen(demo).status.phase is DemoInstancePhase.RESTARTING
    assert "Stalled" not in {c.type for c in shop.seen(demo).status.conditions}
    assert not any("Given up" in event.note for event in kubernetes.events)


async def test_a_limit_of_the_node_makes_no_crash_loop(shop: Shop, podman: FakePodman) -> None:
    demo = await shop.ready()
    shop.crash(demo)
    full = NodeLimitError("no space left on device", limit="DiskFull", remedy="make room")
    podman.failures["start"] = full
    for _ in range(5):
        shop.clock.wait(await shop.resync(demo) or 0)
    del podman.failures["start"]
    await shop.resync(demo)
    assert shop.ready_of(demo) == (TRUE, "Restart")
    shop.crash(demo)
    await shop.resync(demo)
    assert "the 2. time in a row" in shop.condition(demo).message


async def test_each_end_is_counted_once_however_often_it_is_reconciled(shop: Shop) -> None:
    demo = await shop.ready()
    for _ in range(2):
        shop.crash(demo)
        for _ in range(4):
            await shop.resync(demo)
    labels = {"namespace": "default", "checkpoint": "shop"}
    assert scrape(shop.node.metrics).value("tryitnow_restarts_total", **labels) == 2
