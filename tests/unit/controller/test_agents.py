"""A node is silent when nothing new comes from it, whatever its clock says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from tests.unit.builders import NOW, make_agent
from tryitnow.api.meta import Key
from tryitnow.api.nodeagent import LOST_AFTER, NodeAgent
from tryitnow.controller import agents
from tryitnow.controller.agents import FIRST_CHANCE, AgentStore
from tryitnow.kubernetes.objects import Listing

KEY = Key("", "node-a")
SECOND = timedelta(seconds=1)


class Clock:
    """The controller's clock."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(agents, "now", clock)
    return clock


@pytest.fixture
def store(clock: Clock) -> AgentStore:  # noqa: ARG001 - its clock
    return AgentStore()


def is_lost(store: AgentStore, clock: Callable[[], datetime]) -> bool:
    agent = store.get(KEY)
    assert agent is not None
    return agent.is_lost(clock())


@pytest.mark.parametrize("skew", [timedelta(), -10 * LOST_AFTER, 10 * LOST_AFTER])
def test_each_report_is_a_sign_of_life_whatever_the_nodes_clock_says(
    store: AgentStore, clock: Clock, skew: timedelta
) -> None:
    for _ in range(3):
        store.update(make_agent(seen=clock() + skew))
        clock.time += 10 * SECOND
    assert not is_lost(store, clock)
    clock.time += LOST_AFTER - 10 * SECOND
    assert not is_lost(store, clock)
    clock.time += SECOND
    assert is_lost(store, clock)


def test_the_same_report_again_is_none(store: AgentStore, clock: Clock) -> None:
    for _ in range(10):
        store.update(make_agent(seen=NOW))
        clock.time += 5 * SECOND
    assert is_lost(store, clock)


def test_one_that_was_silent_before_the_controller_came_gets_a_chance_to_report(
    store: AgentStore, clock: Clock
) -> None:
    """It may be dead; or no report came through before, as none of any node did."""
    store.update(make_agent(seen=NOW - 2 * LOST_AFTER))
    assert not is_lost(store, clock)
    clock.time += FIRST_CHANCE + SECOND
    assert is_lost(store, clock)
    store.update(make_agent(seen=NOW - 2 * LOST_AFTER + SECOND))
    assert not is_lost(store, clock)


def test_one_that_never_reported_is_lost(store: AgentStore, clock: Clock) -> None:
    store.update(make_agent(seen=None))
    assert is_lost(store, clock)


def test_what_it_told_is_kept_as_long_as_it_is_there(store: AgentStore) -> None:
    told = NOW + timedelta(hours=1)
    agent = store.update(make_agent(seen=told))
    assert store.told(KEY) == told
    store.forget(KEY, "another")
    assert store.told(KEY) == told
    store.replace(Listing[NodeAgent]([], 1000))
    assert store.told(KEY) is None
    store.update(agent)
    store.forget(KEY)
    assert store.told(KEY) is None
