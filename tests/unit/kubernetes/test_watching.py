"""What a watch event does to the view and to the work."""

from __future__ import annotations

import logging
from typing import Any

import kopf
import pytest

from tests.unit.builders import make_instance
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.kubernetes.view import View
from tryitnow.kubernetes.watching import new_registry, take
from tryitnow.workqueue import WorkQueue


class RecordingQueue(WorkQueue):
    """Says what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Key]] = []

    def add(self, key: Key) -> None:
        self.asked.append(("add", key))

    def interrupt(self, key: Key) -> None:
        self.asked.append(("interrupt", key))


@pytest.fixture
def view() -> View[DemoInstance]:
    return View(DemoInstance)


@pytest.fixture
def queue() -> RecordingQueue:
    return RecordingQueue()


def event(type_: Any, instance: DemoInstance, **changes: Any) -> kopf.RawEvent:
    body: Any = instance.to_api() | changes
    return {"type": type_, "object": body}


DEMO = make_instance("demo")


@pytest.mark.parametrize("type_", [None, "ADDED", "MODIFIED"])
def test_what_is_seen_is_remembered_and_looked_at(
    view: View[DemoInstance], queue: RecordingQueue, type_: str | None
) -> None:
    take(event(type_, DEMO), view, queue)
    assert view.get(DEMO.key) == DEMO
    assert queue.asked == [("add", DEMO.key)]


def test_a_deletion_interrupts_what_is_being_done(
    view: View[DemoInstance], queue: RecordingQueue
) -> None:
    take(event("ADDED", DEMO), view, queue)
    take(event("MODIFIED", make_instance("demo", deleting=True)), view, queue)
    take(event("MODIFIED", make_instance("demo", deleting=True)), view, queue)
    assert queue.asked == [
        ("add", DEMO.key),
        ("interrupt", DEMO.key),
        ("add", DEMO.key),
    ], "the removal itself is not interrupted"


def test_what_is_gone_is_forgotten(view: View[DemoInstance], queue: RecordingQueue) -> None:
    take(event("ADDED", DEMO), view, queue)
    take(event("DELETED", DEMO), view, queue)
    assert len(view) == 0
    assert queue.asked[-1] == ("interrupt", DEMO.key)


def test_a_removal_is_not_interrupted_by_its_own_success(
    view: View[DemoInstance], queue: RecordingQueue
) -> None:
    going = make_instance("demo", deleting=True)
    take(event("ADDED", DEMO), view, queue)
    take(event("MODIFIED", going), view, queue)
    take(event("DELETED", going), view, queue)
    assert len(view) == 0
    assert [asked for asked, _ in queue.asked] == ["add", "interrupt", "add"]


def test_an_unreadable_object_is_said_and_stops_nobody(
    view: View[DemoInstance], queue: RecordingQueue, caplog: pytest.LogCaptureFixture
) -> None:
    take(event("ADDED", DEMO, spec={"ttl": "soon"}), view, queue)
    assert queue.asked == []
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "default/demo" in record.getMessage()
    assert "spec.checkpointRef" in record.getMessage()


def test_a_kind_without_work_of_its_own_is_only_remembered(view: View[DemoInstance]) -> None:
    take(event("ADDED", DEMO), view, None)
    assert len(view) == 1


def test_a_registry_only_watches() -> None:
    assert isinstance(new_registry(), kopf.OperatorRegistry)
