"""What a demo may reach is set where another agent started it, kept up, and told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tests.unit.agent.demos.shop import Shop, shop_definition
from tests.unit.sandbox import FakeOutbound
from tryitnow.agent.demos.egress import EgressWatch
from tryitnow.agent.sandbox.egress import EgressProblem, EgressReason
from tryitnow.api.meta import ConditionStatus, Key, find_condition
from tryitnow.api.network import EgressRule, Network

RULE = EgressRule.model_validate({"host": "api.example.com", "ports": [443]})
PROBLEM = EgressProblem(EgressReason.NOT_RESOLVED, "api.example.com has no known address")


class Watched:
    """The watch of one agent, and the demos that it has looked at."""

    def __init__(self, shop: Shop) -> None:
        self.changed: list[Key] = []
        self._watch = EgressWatch(shop.tools, self.changed.append)

    async def tick(self) -> list[Key]:
        self.changed.clear()
        await self._watch.tick()
        return list(self.changed)


@pytest.fixture
def talking(shop: Shop) -> Shop:
    """A shop that asks for something outside."""
    shop.defined(shop_definition().model_copy(update={"network": Network(egress=(RULE,))}))
    return shop


async def test_a_demo_that_asks_for_nothing_has_no_condition_of_it(shop: Shop) -> None:
    demo = await shop.ready()
    assert await Watched(shop).tick() == []
    assert find_condition(shop.seen(demo).status.conditions, "EgressOpen") is None


async def test_what_is_open_and_what_is_not_is_told(talking: Shop, outbound: FakeOutbound) -> None:
    demo = await talking.ready()
    assert talking.condition(demo, "EgressOpen").status is ConditionStatus.TRUE
    watched = Watched(talking)
    assert await watched.tick() == []
    outbound.problems = (PROBLEM,)
    assert await watched.tick() == [demo.key]
    talking.answers(demo)
    await talking.resync(demo)
    closed = talking.condition(demo, "EgressOpen")
    assert (closed.status, closed.reason) == (ConditionStatus.FALSE, "EgressNotResolved")
    assert closed.message == PROBLEM.message
    assert await watched.tick() == []
    outbound.problems = ()
    assert await watched.tick() == [demo.key]
    await talking.resync(demo)
    assert talking.condition(demo, "EgressOpen").reason == "AllOpen"


async def test_a_demo_that_another_agent_started_is_closed_by_the_next(
    talking: Shop,
    next_agent: Callable[[], Awaitable[None]],
) -> None:
    """Also one of a version that let everything out."""
    await talking.ready()
    await next_agent()
    fresh = FakeOutbound()
    sandboxes = replace(talking.tools.start.sandboxes, outbound=fresh)
    talking.tools = replace(talking.tools, start=replace(talking.tools.start, sandboxes=sandboxes))
    watched = Watched(talking)
    fresh.fails = True
    await watched.tick()
    assert fresh.networks == []
    fresh.fails = False
    await watched.tick()
    await watched.tick()
    assert fresh.networks == [Network(egress=(RULE,))]
