"""What we last saw of the objects of a kind."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.builders import make_demo
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.kubernetes.objects import Listing
from tryitnow.kubernetes.store import Index, Store

_TIME = "2026-01-01T12:00:00Z"


def seen(name: str = "demo", *, version: int, uid: str = "first", text: str = "") -> DemoInstance:
    instance = make_demo(name, uid=uid, url=text)
    metadata = instance.metadata.model_copy(update={"resource_version": str(version)})
    return instance.model_copy(update={"metadata": metadata})


@pytest.fixture
def store() -> Store[DemoInstance]:
    return Store(DemoInstance)


def test_an_event_of_an_older_state_does_not_undo_our_own_write(store: Store[DemoInstance]) -> None:
    written = store.update(seen(version=7, text="ours"))
    assert store.ingest(seen(version=6).to_api()) is written
    assert store.get(written.key) is written


def test_a_newer_state_takes_the_place_of_the_older(store: Store[DemoInstance]) -> None:
    store.update(seen(version=9))
    newer = store.update(seen(version=10, text="new"))
    assert store.get(newer.key) is newer, "versions are numbers: 10 comes after 9"
    assert len(store) == 1


def test_a_namesake_made_after_a_deletion_is_another_object(store: Store[DemoInstance]) -> None:
    store.update(seen(version=7, uid="first"))
    namesake = store.update(seen(version=8, uid="second"))
    store.forget(namesake.key, "first")
    assert store.get(namesake.key) is namesake, "the first one's end is not its end"
    store.forget(namesake.key, "second")
    assert store.get(namesake.key) is None


def test_a_late_state_of_a_deleted_namesake_does_not_hide_the_new_object(
    store: Store[DemoInstance],
) -> None:
    namesake = store.update(seen(version=20, uid="second"))
    store.update(seen(version=15, uid="first"))
    assert store.get(namesake.key) is namesake


def test_forgetting_what_is_unknown_is_fine(store: Store[DemoInstance]) -> None:
    store.forget(make_demo("nobody").key)
    known = store.update(seen(version=1))
    store.forget(known.key)
    assert len(store) == 0


def test_a_fresh_list_removes_what_is_gone_and_says_so(store: Store[DemoInstance]) -> None:
    stays, gone = store.update(seen("stays", version=1)), store.update(seen("gone", version=2))
    assert store.replace(Listing([stays], resource_version=5)) == {gone.key}
    assert list(store) == [stays]


def test_what_was_seen_after_the_list_was_made_stays(store: Store[DemoInstance]) -> None:
    late = store.update(seen("late", version=6))
    assert store.replace(Listing([], resource_version=5)) == set()
    assert list(store) == [late]


def test_a_list_does_not_bring_back_an_older_state(store: Store[DemoInstance]) -> None:
    newer = store.update(seen(version=7, text="ours"))
    store.replace(Listing([seen(version=4)], resource_version=5))
    assert store.get(newer.key) is newer


def test_a_view_may_change_while_it_is_walked_through(store: Store[DemoInstance]) -> None:
    for i in range(3):
        store.update(seen(f"demo-{i}", version=i))
    for instance in store:
        store.forget(instance.key)
    assert len(store) == 0


def unreadable(name: str = "demo", *, version: int, **metadata: Any) -> dict[str, Any]:
    body = seen(name, version=version).to_api()
    body["metadata"] |= metadata
    return {**body, "spec": {"ttl": "soon", "checkpointRef": {}}}


def test_an_object_that_does_not_fit_is_reported_with_its_fields_and_known_by_its_metadata(
    store: Store[DemoInstance], caplog: pytest.LogCaptureFixture
) -> None:
    key = store.update(seen(version=1)).key
    body = unreadable(version=2, finalizers=["tryitnow.dev/node"], deletionTimestamp=_TIME)
    assert store.ingest(body) is None
    assert store.get(key) is None, "its older state is no longer true"
    known = store.unreadable(key)
    assert known is not None
    assert known.is_deleting
    assert known.has_finalizer
    assert known.metadata.uid == "first"
    assert known.text_at("spec", "ttl") == "soon"
    assert known.text_at("spec", "checkpointRef", "name") is None
    store.ingest(unreadable(version=3))
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "default/demo" in record.getMessage()
    assert "spec.ttl" in record.getMessage()
    assert "1h30m" in record.getMessage()
    assert "spec.checkpointRef.name" in record.getMessage()


def test_an_object_that_was_fixed_is_readable_again(store: Store[DemoInstance]) -> None:
    store.ingest(unreadable(version=2))
    fixed = store.update(seen(version=3))
    assert store.get(fixed.key) is fixed
    assert store.all_unreadable() == []
    store.ingest(unreadable(version=2))
    assert store.get(fixed.key) is fixed, "that was before"


def test_an_unreadable_object_that_is_gone_is_forgotten(store: Store[DemoInstance]) -> None:
    for name in ("a", "b", "c"):
        store.ingest(unreadable(name, version=2))
    store.forget(Key("default", "a"), "another")
    assert len(store.all_unreadable()) == 3
    store.forget(Key("default", "a"), "first")
    assert {each.key.name for each in store.all_unreadable()} == {"b", "c"}
    listed = store.unreadable(Key("default", "b"))
    assert listed is not None
    gone = store.replace(Listing([], resource_version=5, unreadable_objects=(listed,)))
    assert gone == {Key("default", "c")}
    assert [each.key.name for each in store.all_unreadable()] == ["b"]


# -- a cluster that was restored from a backup ----------------------------------------------------


def test_after_a_restore_the_list_counts_though_it_is_older(store: Store[DemoInstance]) -> None:
    gone = store.update(seen("gone", version=900))
    before = store.update(seen(version=907, text="after the backup"))
    older = seen(version=40, text="in the backup")
    listing = Listing([older], resource_version=50, was_restored=True)
    assert store.replace(listing) == {gone.key}
    assert list(store) == [older]
    newer = store.update(seen(version=51))
    assert store.get(before.key) is newer, "from then on versions count again"


def test_a_restore_that_was_overtaken_is_known_by_an_object_that_is_older_in_a_newer_list(
    store: Store[DemoInstance],
) -> None:
    """Found by a seed: the list was newer than the last one, and yet of another history."""
    seen_later = store.update(seen(version=107))
    gone = store.update(seen("gone", version=106))
    older = seen(version=90)
    listing = Listing([older], resource_version=120)
    assert store.is_of_another_history(listing)
    assert store.replace(listing) == {gone.key}
    assert list(store) == [older]
    assert not store.is_of_another_history(Listing([older], resource_version=121))
    written_meanwhile = store.update(seen(version=125))
    assert not store.is_of_another_history(Listing([older], resource_version=121))
    assert store.get(seen_later.key) is written_meanwhile


# -- indices --------------------------------------------------------------------------------------


def test_an_index_follows_each_change(store: Store[DemoInstance]) -> None:
    def nodes(instance: DemoInstance) -> tuple[str, ...]:
        return (instance.status.node_name,) if instance.status.node_name else ()

    store.update(on("node-a", seen("early", version=1)))
    by_node = store.followed_by(Index(nodes))
    assert by_node.count("node-a") == 1, "what was there before it is found as well"
    demo = store.update(seen(version=1))
    assert by_node.count("node-a") == 1
    store.update(on("node-a", seen(version=2)))
    assert {each.metadata.name for each in by_node.get("node-a")} == {"early", "demo"}
    moved = store.update(on("node-b", seen(version=3)))
    assert by_node.get("node-b") == [moved]
    assert by_node.count("node-a") == 1
    store.ingest(unreadable(version=4))
    assert by_node.get("node-b") == []
    assert by_node.entries() == ["node-a"]
    store.forget(demo.key)
    store.replace(Listing([], resource_version=9))
    assert by_node.entries() == []


def on(node: str, instance: DemoInstance) -> DemoInstance:
    status = instance.status.model_copy(update={"node_name": node})
    return instance.model_copy(update={"status": status})


def test_a_duration_beyond_all_calendars_makes_no_object_unreadable(
    store: Store[DemoInstance],
) -> None:
    body = make_demo().to_api()
    body["spec"]["ttl"] = "9999999999d"
    found = store.ingest(body)
    assert found is not None
    assert found.spec.ttl == timedelta(days=36500)
