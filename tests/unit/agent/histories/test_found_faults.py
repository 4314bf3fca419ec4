"""Faults that histories found, each as the shortest history that shows it.

One that is not fixed yet is marked: it needs more than a fix.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.agent.histories.history import SILENT_SECONDS, History, HistoryError, live
from tests.unit.agent.histories.machine import DISK_BYTES
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


async def _cluster_is_restored_while_a_demo_waits(history: History) -> None:
    history.people.publish("lone", Pool())
    history.machine.begin()
    await asyncio.sleep(10)
    history.machine.disk_bytes = 0
    history.people.create("lone", StartPolicy.COLD_START, OnCrash.KEEP)
    backup = history.cluster.backup()
    await asyncio.sleep(8)
    history.cluster.restore(backup)
    history.machine.disk_bytes = DISK_BYTES
    starts = 0
    history.podman.made.clear()
    for _ in range(20):
        await asyncio.sleep(1)
        starts = len([one for one in history.podman.made if not one.image.startswith("localhost")])
    assert starts == 1, f"it is started {starts} times"


@pytest.mark.xfail(
    strict=True,
    raises=HistoryError,
    reason="the store takes the answers of a cluster that was restored for old ones, until the "
    "next full look, so a demo that became ready meanwhile is not known to be ready (seed 1493)",
)
def test_a_demo_that_becomes_ready_after_the_cluster_was_restored_is_started_once() -> None:
    live(1493, _cluster_is_restored_while_a_demo_waits)


def test_a_demo_that_ended_is_not_ready_for_longer_than_a_minute_though_podman_hangs() -> None:
    live(751, _podman_hangs_while_a_demo_ends)
