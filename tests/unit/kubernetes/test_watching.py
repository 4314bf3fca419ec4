"""What a watch event does to the store and to the work."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import kopf
import pytest

from tests.unit.builders import make_demo
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.kubernetes.store import Store
from tryitnow.kubernetes.watching import ReconnectPauses, ingest, new_registry
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
def store() -> Store[DemoInstance]:
    return Store(DemoInstance)


@pytest.fixture
def queue() -> RecordingQueue:
    return RecordingQueue()


def event(type_: Any, instance: DemoInstance, **changes: Any) -> kopf.RawEvent:
    body: Any = instance.to_api() | changes
    return {"type": type_, "object": body}


DEMO = make_demo("demo")


@pytest.mark.parametrize("type_", [None, "ADDED", "MODIFIED"])
def test_what_is_seen_is_remembered_and_checked(
    store: Store[DemoInstance], queue: RecordingQueue, type_: str | None
) -> None:
    ingest(event(type_, DEMO), store, queue)
    assert store.get(DEMO.key) == DEMO
    assert queue.asked == [("add", DEMO.key)]


def test_a_deletion_interrupts_what_is_being_done(
    store: Store[DemoInstance], queue: RecordingQueue
) -> None:
    ingest(event("ADDED", DEMO), store, queue)
    ingest(event("MODIFIED", make_demo("demo", deleting=True)), store, queue)
    ingest(event("MODIFIED", make_demo("demo", deleting=True)), store, queue)
    assert queue.asked == [
        ("add", DEMO.key),
        ("interrupt", DEMO.key),
        ("add", DEMO.key),
    ], "the removal itself is not interrupted"


def test_what_is_gone_is_forgotten(store: Store[DemoInstance], queue: RecordingQueue) -> None:
    ingest(event("ADDED", DEMO), store, queue)
    ingest(event("DELETED", DEMO), store, queue)
    assert len(store) == 0
    assert queue.asked[-1] == ("interrupt", DEMO.key)


def test_a_removal_is_not_interrupted_by_its_own_success(
    store: Store[DemoInstance], queue: RecordingQueue
) -> None:
    going = make_demo("demo", deleting=True)
    ingest(event("ADDED", DEMO), store, queue)
    ingest(event("MODIFIED", going), store, queue)
    ingest(event("DELETED", going), store, queue)
    assert len(store) == 0
    assert [asked for asked, _ in queue.asked] == ["add", "interrupt", "add"]


def test_an_unreadable_object_is_reported_and_stops_nobody(
    store: Store[DemoInstance], queue: RecordingQueue, caplog: pytest.LogCaptureFixture
) -> None:
    ingest(event("ADDED", DEMO, spec={"ttl": "soon"}), store, queue)
    assert queue.asked == []
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "default/demo" in record.getMessage()
    assert "spec.checkpointRef" in record.getMessage()


def test_an_unreadable_object_that_is_deleted_is_reconciled(
    store: Store[DemoInstance], queue: RecordingQueue
) -> None:
    """Deleting it takes its metadata alone; else its deletion would hang on our finalizer."""
    strange = {"spec": {"ttl": "soon"}}
    ingest(event("ADDED", DEMO), store, queue)
    ingest(event("MODIFIED", make_demo("demo", deleting=True), **strange), store, queue)
    ingest(event("MODIFIED", make_demo("demo", deleting=True), **strange), store, queue)
    ingest(event("DELETED", make_demo("demo", deleting=True), **strange), store, queue)
    assert [asked for asked, _ in queue.asked] == ["add", "interrupt", "add", "add"]
    assert store.all_unreadable() == []


def test_a_kind_without_work_of_its_own_is_only_remembered(store: Store[DemoInstance]) -> None:
    ingest(event("ADDED", DEMO), store, None)
    assert len(store) == 1


def test_an_api_server_that_is_away_is_tried_for_ever_and_not_by_all_at_once() -> None:
    first, second = ([*itertools.islice(ReconnectPauses(), 40)] for _ in range(2))
    assert first != second
    assert 1 <= first[0] <= 1.2
    assert max(first + second) <= 9.6


def test_a_registry_only_watches() -> None:
    assert isinstance(new_registry(), kopf.OperatorRegistry)
