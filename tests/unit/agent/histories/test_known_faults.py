"""Faults that histories found and that are not fixed yet: what they need is more than a fix."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.agent.histories.history import SILENT_SECONDS, History, HistoryError, live
from tests.unit.agent.histories.people import says_ready
from tests.unit.agent.histories.service import Trouble
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.api.checkpoint import OnCrash, Pool
from tryitnow.api.demoinstance import StartPolicy


async def _podman_hangs_while_a_demo_ends(history: History) -> None:
    history.people.publish("lone", Pool())
    history.machine.begin()
    await asyncio.sleep(10)
    history.people.create("lone", StartPolicy.PREFER_RESTORE, OnCrash.KEEP)
    await asyncio.sleep(10)
    [demo] = history.people.demos()
    assert says_ready(demo), "the history begins as it should"
    history.podman.troubles.append(Trouble(("pid",), hangs=True))
    history.podman.end_container(str(demo_name(demo)))
    await asyncio.sleep(SILENT_SECONDS)
    [demo] = history.people.demos()
    assert not says_ready(demo), "it is still called ready"


@pytest.mark.xfail(
    strict=True,
    raises=HistoryError,
    reason="the look at a demo waits for the hanging call of Podman, for 60 s, and what the probes "
    "found is said by that look alone (seed 751)",
)
def test_a_demo_that_ended_is_not_ready_for_longer_than_a_minute_though_podman_hangs() -> None:
    live(751, _podman_hangs_while_a_demo_ends)
