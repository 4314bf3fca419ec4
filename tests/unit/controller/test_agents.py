"""A node is silent when nothing new comes from it, whatever its clock says."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from tests.unit.builders import NOW, Clock, make_agent
from tryitnow.api.meta import Key
from tryitnow.api.nodeagent import LOST_AFTER, NodeAgent
from tryitnow.controller.agents import AgentStore
from tryitnow.kubernetes.objects import Listing

KEY = Key("", "node-a")
SECOND = timedelta(seconds=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> AgentStore:
    return AgentStore(clock)


@pytest.mark.parametrize("skew", [timedelta(), -10 * LOST_AFTER, 10 * LOST_AFTER])
def test_each_report_is_a_sign_of_life_whatever_the_nodes_clock_says(
    store: AgentStore, clock: Clock, skew: timedelta
) -> None:
    for number in range(3):
        store.update(make_agent(seen=NOW + skew + number * 10 * SECOND))
        clock.seconds += 10
    assert not store.is_lost(KEY)
    clock.seconds += LOST_AFTER.total_seconds() - 10
    assert not store.is_lost(KEY)
    clock.seconds += 1
    assert store.is_lost(KEY)


def test_the_same_report_again_is_none(store: AgentStore, clock: Clock) -> None:
    for _ in range(10):
        store.update(make_agent(seen=NOW))
        clock.seconds += 5
    assert store.is_lost(KEY)


def test_an_older_state_that_comes_late_is_none(store: AgentStore, clock: Clock) -> None:
    newest = make_agent(seen=NOW)
    metadata = newest.metadata.model_copy(update={"resource_version": "9"})
    store.update(newest.model_copy(update={"metadata": metadata}))
    clock.seconds += LOST_AFTER.total_seconds() + 1
    store.update(make_agent(seen=NOW - SECOND))
    assert store.is_lost(KEY)


def test_a_step_of_the_wall_clock_harms_nothing(
    store: AgentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NTP step of a minute, or a virtual machine that was resumed."""
    store.update(make_agent(seen=NOW))
    real = time.time
    for step in (60.0, -86400.0):
        monkeypatch.setattr(time, "time", lambda step=step: real() + step)
        assert not store.is_lost(KEY)


def test_one_that_was_silent_before_the_controller_came_gets_a_chance_to_report(
    store: AgentStore, clock: Clock
) -> None:
    """It may be dead; or no report came through before, as none of any node did."""
    store.update(make_agent(seen=NOW - 2 * LOST_AFTER))
    assert not store.is_lost(KEY)
    clock.seconds += LOST_AFTER.total_seconds() + 1
    assert store.is_lost(KEY)
    store.update(make_agent(seen=NOW - 2 * LOST_AFTER + SECOND))
    assert not store.is_lost(KEY)


def test_one_whose_report_cannot_be_read_lives(store: AgentStore, clock: Clock) -> None:
    """Such as after a roll-back: its node is alive, and the finalizers on it stay."""
    for number in range(10):
        body = make_agent(seen=NOW + number * 10 * SECOND).to_api()
        body["metadata"]["resourceVersion"] = str(number + 1)
        body["status"]["capacity"] = "of another version"
        assert store.ingest(body) is None
        clock.seconds += 10
    assert not store.is_lost(KEY)
    assert store.get(KEY) is None, "but nothing new is given to it"
    clock.seconds += LOST_AFTER.total_seconds()
    assert store.is_lost(KEY)


def test_one_that_never_reported_is_lost(store: AgentStore) -> None:
    store.update(make_agent(seen=None))
    assert store.is_lost(KEY)


def test_what_it_told_is_kept_as_long_as_it_is_there(store: AgentStore) -> None:
    reported = NOW + timedelta(hours=1)
    agent = store.update(make_agent(seen=reported))
    assert store.heartbeat_time(KEY) == reported
    store.forget(KEY, "another")
    assert store.heartbeat_time(KEY) == reported
    store.replace(Listing[NodeAgent]([], 1000))
    assert store.heartbeat_time(KEY) is None
    store.update(agent)
    assert store.reports(KEY) == 1
    store.forget(KEY)
    assert store.heartbeat_time(KEY) is None
