"""Events are told a moment after what they tell of, and none is lost when a program ends."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from kubernetes.aio import client as aio

from tests.unit.builders import make_demo
from tryitnow.kubernetes import events
from tryitnow.kubernetes.events import EventRecorder


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[aio.EventsV1Event]:
    """What reaches the API server; only the request itself is faked."""
    reported: list[aio.EventsV1Event] = []

    async def create(_: aio.EventsV1Api, __: str, event: aio.EventsV1Event, **___: Any) -> None:
        reported.append(event)

    monkeypatch.setattr(aio.EventsV1Api, "create_namespaced_event", create)
    return reported


async def test_an_event_lets_the_work_go_first_and_a_flush_does_not_wait(
    reported: list[aio.EventsV1Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAUSE_SECONDS", 3600)
    recorder = EventRecorder(aio.ApiClient(), "agent")
    recorder.record(make_demo(), "Ready", "restored on node-a", warning=False)
    await asyncio.sleep(0.01)
    assert reported == []
    await recorder.flush()
    (event,) = reported
    assert (event.reason, event.note, event.type) == ("Ready", "restored on node-a", "Normal")
    assert event.reporting_controller == "tryitnow.dev/agent"


async def test_an_event_says_when_it_happened_not_when_it_was_told(
    reported: list[aio.EventsV1Event],
) -> None:
    recorder = EventRecorder(aio.ApiClient(), "agent")
    recorder.record(make_demo(), "Ready", "x" * 5000, warning=True)
    await asyncio.sleep(0.01)
    flushing = time.time()
    await recorder.flush()
    (event,) = reported
    assert event.event_time is not None
    assert event.event_time.timestamp() < flushing
    assert len(event.note or "") == 1024, "the API server's limit"
    assert event.type == "Warning"


async def test_no_event_steers_a_terminal(reported: list[aio.EventsV1Event]) -> None:
    recorder = EventRecorder(aio.ApiClient(), "agent")
    recorder.record(make_demo(), "Failed", "it said \x1b[2J\u202eno\x9b1m", warning=True)
    await recorder.flush()
    (event,) = reported
    assert event.note == "it said no"
