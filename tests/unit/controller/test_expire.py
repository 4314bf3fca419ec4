"""An instance ends when its time is over by the API server's clock, and not a moment before."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.builders import NOW, Clock, make_demo
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.backoff import Backoff
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.demoinstance import reconcile_instance
from tryitnow.controller.expire import RECHECK_INTERVAL
from tryitnow.controller.refusals import PAUSES, Refusals
from tryitnow.kubernetes.clock import SETTLING_SECONDS, ServerClock
from tryitnow.kubernetes.errors import ConflictError, ForbiddenError

HOUR = timedelta(hours=1)


class World:
    """One bound instance with an hour to live, and three clocks that agree until they are set."""

    def __init__(self) -> None:
        self.monotonic, self.wall = Clock(), Clock()
        self.monotonic.seconds, self.wall.seconds = 5000.0, NOW.timestamp()
        self.server = NOW
        self.kubernetes = FakeKubernetes()
        self.kubernetes.clock = ServerClock(monotonic=self.monotonic, wall=self.wall)
        self.kubernetes.now = lambda: self.server
        self.kubernetes.monotonic = self.monotonic
        self.cluster = Cluster(listed=True)
        self.demo = self.kubernetes.put(make_demo(ttl=HOUR, node="node-a", created=NOW))
        self.cluster.instances.update(self.demo)

    def passes(self, time: timedelta) -> None:
        self.monotonic.seconds += time.total_seconds()
        self.wall.seconds += time.total_seconds()
        self.server += time

    async def reconcile_once(self) -> timedelta | None:
        return await reconcile_instance(self.kubernetes, self.cluster, self.demo.key)

    async def answer(self) -> None:
        """Let the API server answer something."""
        await self.kubernetes.list_all(DemoInstance)

    async def run(self, time: timedelta) -> None:
        for _ in range(int(time.total_seconds() / 10)):
            self.passes(timedelta(seconds=10))
            await self.answer()

    def is_there(self) -> bool:
        return self.kubernetes.has(self.demo)


@pytest.fixture
async def world() -> World:
    world = World()
    await world.answer()
    await world.reconcile_once()
    return world


async def test_it_ends_when_its_time_is_over(world: World) -> None:
    again = await world.reconcile_once()
    assert again is not None
    assert HOUR - timedelta(seconds=2) < again <= HOUR
    world.passes(HOUR - timedelta(seconds=2))
    await world.reconcile_once()
    assert world.is_there()
    world.passes(timedelta(seconds=3))
    assert await world.reconcile_once() is None
    assert not world.is_there()


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(days=-1)])
async def test_a_step_of_the_controllers_clock_ends_nothing(world: World, step: timedelta) -> None:
    world.wall.seconds += step.total_seconds()
    for _ in range(3):
        again = await world.reconcile_once()
        assert again is not None
        await world.answer()
    assert world.is_there()
    world.passes(HOUR)
    await world.answer()
    await world.reconcile_once()
    assert not world.is_there(), "and its time goes on"


async def test_while_the_clocks_disagree_nothing_ends(world: World) -> None:
    world.passes(HOUR + timedelta(seconds=5))
    world.wall.seconds += 3600
    assert await world.reconcile_once() == RECHECK_INTERVAL
    assert world.is_there()
    await world.answer()
    await world.reconcile_once()
    assert not world.is_there()


async def test_a_step_of_the_api_servers_clock_ends_nothing_until_it_stays(world: World) -> None:
    world.server += timedelta(days=1)
    await world.answer()
    await world.reconcile_once()
    assert world.is_there()
    world.server -= timedelta(days=1)
    await world.run(timedelta(seconds=SETTLING_SECONDS + 20))
    await world.reconcile_once()
    assert world.is_there(), "somebody set it right in time"
    world.server += timedelta(days=1)
    await world.run(timedelta(seconds=SETTLING_SECONDS + 20))
    await world.reconcile_once()
    assert not world.is_there()


async def test_an_extension_that_nobody_has_told_of_yet_wins(world: World) -> None:
    world.passes(HOUR + timedelta(seconds=5))
    await world.kubernetes.patch(world.demo, {"spec": {"ttl": "2h"}})
    again = await world.reconcile_once()
    assert world.is_there()
    assert world.kubernetes.events == []
    assert again is not None
    assert timedelta(minutes=59) < again < timedelta(minutes=60)
    assert world.kubernetes.find(world.demo).status.expires_at == NOW + 2 * HOUR


async def test_a_status_that_was_written_meanwhile_does_not_save_it(world: World) -> None:
    world.passes(HOUR + timedelta(seconds=5))
    await world.kubernetes.patch_status_fields(world.demo, {"restarts": 3})
    await world.reconcile_once()
    assert not world.is_there()
    assert world.kubernetes.reasons() == ["Expired"]


async def test_a_deletion_that_is_refused_is_reported_once_and_tried_again(world: World) -> None:
    """A webhook protects the namespace, say."""
    clock = Clock()
    world.cluster.refusals = Refusals(Backoff(PAUSES, clock=clock))
    world.kubernetes.refusals["DELETE", "demoinstances"] = ForbiddenError("a webhook says no")
    world.passes(HOUR + timedelta(seconds=5))
    for _ in range(4):
        again = await world.reconcile_once()
        assert again is not None
        assert timedelta() < again <= 1.2 * PAUSES.first
    assert world.kubernetes.reasons() == ["CannotDeleteExpired"]
    world.kubernetes.refusals.clear()
    clock.seconds += 7
    assert await world.reconcile_once() is None
    assert not world.is_there()


async def test_one_that_changes_all_the_time_is_reconciled_later(world: World) -> None:
    class Busy(FakeKubernetes):
        async def delete(self, *_: object, **__: object) -> bool:
            raise ConflictError("it changed")

    busy = Busy()
    busy.clock = world.kubernetes.clock
    busy.now, busy.monotonic = world.kubernetes.now, world.monotonic
    busy.put(world.demo)
    world.kubernetes = busy
    world.passes(HOUR + timedelta(seconds=5))
    with pytest.raises(ConflictError, match="faster than it can be deleted"):
        await world.reconcile_once()


async def test_one_that_is_gone_or_has_a_namesake_by_now_is_gone(world: World) -> None:
    world.passes(HOUR + timedelta(seconds=5))
    namesake = make_demo(uid="another", node="node-a", created=world.server)
    namesake = world.kubernetes.put(namesake)
    await world.reconcile_once()
    assert world.kubernetes.find(namesake) == namesake
    assert world.kubernetes.events == []
