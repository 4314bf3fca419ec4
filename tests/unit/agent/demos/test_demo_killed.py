"""An agent that is killed at any moment: the next one brings every demo to where it shall be.

Killed means that nothing is cleaned up: each moment before a call to Podman, the cluster or a
firewall is tried, and all that the old agent asks from then on is not done.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from tests.unit.agent.demos.shop import DROP, RENAME, Shop
from tests.unit.conftest import ADDRESS
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, State
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import ConditionStatus
from tryitnow.kubernetes.errors import NotFoundError

TRUE = ConditionStatus.TRUE

NextAgent = Callable[[], Awaitable[None]]

LEAST_MOMENTS = 12
"""Fewer would mean that the killing does not work."""


class KilledError(BaseException):
    """The agent is not there any more."""


@dataclass
class Killer:
    """Kills agents."""

    shop: Shop
    next_agent: NextAgent

    def _set(self, act: Callable[[], None]) -> None:
        self.shop.podman.on_call = act
        self.shop.kubernetes.on_request = act
        self.shop.firewall.on_call = act

    async def resync(self, demo: DemoInstance, moment: int) -> bool:
        """Kill the agent at that moment of its work on a demo; return whether it got that far."""
        calls = itertools.count()

        def die() -> None:
            if next(calls) >= moment:
                raise KilledError

        self._set(die)
        try:
            while (wait := await self.shop.resync(demo)) is not None:
                self.shop.clock.wait(wait)
        except KilledError:
            # What is done in the background of the old process is not done either.
            await asyncio.sleep(0)
            killed = True
        else:
            killed = next(calls) > moment
        self._set(lambda: None)
        if killed:
            await self.next_agent()
        return killed

    async def settle(self, demo: DemoInstance) -> None:
        """Let the next agent do its work, probes included."""
        for _ in range(10):
            wait = await self.shop.resync(demo)
            self.shop.clock.wait(wait or 0)
            if not self.shop.kubernetes.has(demo):
                return
            phase = self.shop.seen(demo).status.phase
            if phase is not DemoInstancePhase.READY:
                continue
            if self.shop.firewall.states and self.shop.firewall.states[-1] is State.CLOSED:
                self.shop.fails_to_answer(demo)
                continue
            return


@pytest.fixture
def killer(shop: Shop, next_agent: NextAgent) -> Killer:
    return Killer(shop, next_agent)


def moments() -> itertools.count[int]:
    return itertools.count()


async def test_in_a_restart(
    shop: Shop, killer: Killer, firewall: FakeFirewall, podman: FakePodman
) -> None:
    for moment in moments():
        demo = await shop.ready(f"demo-{moment}")
        shop.crash(demo)
        killed = await killer.resync(demo, moment)
        await killer.settle(demo)
        assert shop.is_kept(demo), moment
        assert shop.ready_of(demo)[0] is TRUE, moment
        assert shop.seen(demo).status.url == demo.status.url
        assert shop.commands()[-1] == RENAME, moment
        assert firewall.states[-1] is State.OPEN
        assert not any("remove" in line for line in podman.log), moment
        if not killed:
            break
    assert moment > LEAST_MOMENTS


async def test_in_a_restart_after_a_reboot(shop: Shop, killer: Killer, podman: FakePodman) -> None:
    for moment in moments():
        demo = await shop.ready(f"demo-{moment}")
        podman.reboot()
        killed = await killer.resync(demo, moment)
        await killer.settle(demo)
        assert shop.is_kept(demo), moment
        assert shop.ready_of(demo)[0] is TRUE, moment
        if not killed:
            break
    assert moment > LEAST_MOMENTS


async def test_in_a_first_start(shop: Shop, killer: Killer, podman: FakePodman) -> None:
    for moment in moments():
        demo = shop.ordered(f"demo-{moment}")
        killed = await killer.resync(demo, moment)
        await killer.settle(demo)
        assert shop.ready_of(demo)[0] is TRUE, moment
        assert shop.seen(demo).has_finalizer
        url = f"http://{ADDRESS}:{podman.state(shop.main(demo)).ports[0].host_port}"
        assert shop.seen(demo).status.url == url, moment
        if not killed:
            break
    assert moment > LEAST_MOMENTS


async def test_in_a_reset(shop: Shop, killer: Killer) -> None:
    for moment in moments():
        demo = await shop.ready(f"demo-{moment}")
        asked = shop.ask_for_reset(demo)
        killed = await killer.resync(asked, moment)
        await killer.settle(demo)
        after = shop.seen(demo)
        assert shop.ready_of(demo)[0] is TRUE, moment
        assert after.status.resets == 1, moment
        assert not shop.is_kept(demo), moment
        assert after.status.url == demo.status.url, moment
        assert "DataLost" not in shop.kubernetes.reasons()
        if not killed:
            break
    assert moment > LEAST_MOMENTS


async def test_in_a_removal(
    shop: Shop, killer: Killer, kubernetes: FakeKubernetes, podman: FakePodman
) -> None:
    for moment in moments():
        demo = await shop.ready(f"demo-{moment}")
        await shop.delete(demo)
        killed = await killer.resync(demo, moment)
        await killer.settle(demo)
        assert not kubernetes.has(demo), moment
        assert DROP in shop.commands(), moment
        assert kubernetes.reasons() == [], "the hooks ran, whatever came after them"
        assert podman.containers() == []
        if not killed:
            break
    assert moment >= 8


async def test_in_a_removal_by_the_api_server_that_answers_late(
    shop: Shop, kubernetes: FakeKubernetes
) -> None:
    """The sandbox is gone already when the finalizer is taken off the second time."""
    demo = await shop.ready()
    await shop.delete(demo)
    kubernetes.refusals["PATCH", "demoinstances"] = NotFoundError("a proxy is in the way")
    await shop.resync(demo)
    shop.node.demos.update(shop.seen(demo))
    kubernetes.refusals.clear()
    await shop.resync(demo)
    assert not kubernetes.has(demo)
    assert kubernetes.reasons() == []
