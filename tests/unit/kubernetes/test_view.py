"""What we last saw of the objects of a kind."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.builders import make_instance
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.kubernetes.view import Listing, UnreadableObjectError, View


def seen(name: str = "demo", *, version: int, uid: str = "first", text: str = "") -> DemoInstance:
    instance = make_instance(name, uid=uid, url=text)
    metadata = instance.metadata.model_copy(update={"resource_version": str(version)})
    return instance.model_copy(update={"metadata": metadata})


@pytest.fixture
def view() -> View[DemoInstance]:
    return View(DemoInstance)


def test_an_event_of_an_older_state_does_not_undo_our_own_write(view: View[DemoInstance]) -> None:
    written = view.take(seen(version=7, text="ours"))
    assert view.observe(seen(version=6).to_api()) is written
    assert view.get(written.key) is written


def test_a_newer_state_takes_the_place_of_the_older(view: View[DemoInstance]) -> None:
    view.take(seen(version=9))
    newer = view.take(seen(version=10, text="new"))
    assert view.get(newer.key) is newer, "versions are numbers: 10 comes after 9"
    assert len(view) == 1


def test_a_namesake_made_after_a_deletion_is_another_object(view: View[DemoInstance]) -> None:
    view.take(seen(version=7, uid="first"))
    namesake = view.take(seen(version=8, uid="second"))
    view.forget(namesake.key, "first")
    assert view.get(namesake.key) is namesake, "the first one's end is not its end"
    view.forget(namesake.key, "second")
    assert view.get(namesake.key) is None


def test_a_late_state_of_a_deleted_namesake_does_not_hide_the_new_object(
    view: View[DemoInstance],
) -> None:
    namesake = view.take(seen(version=20, uid="second"))
    view.take(seen(version=15, uid="first"))
    assert view.get(namesake.key) is namesake


def test_forgetting_what_is_unknown_is_fine(view: View[DemoInstance]) -> None:
    view.forget(make_instance("nobody").key)
    known = view.take(seen(version=1))
    view.forget(known.key)
    assert len(view) == 0


def test_a_fresh_list_removes_what_is_gone_and_says_so(view: View[DemoInstance]) -> None:
    stays, gone = view.take(seen("stays", version=1)), view.take(seen("gone", version=2))
    assert view.replace(Listing([stays], resource_version=5)) == {gone.key}
    assert list(view) == [stays]


def test_what_was_seen_after_the_list_was_made_stays(view: View[DemoInstance]) -> None:
    late = view.take(seen("late", version=6))
    assert view.replace(Listing([], resource_version=5)) == set()
    assert list(view) == [late]


def test_a_list_does_not_bring_back_an_older_state(view: View[DemoInstance]) -> None:
    newer = view.take(seen(version=7, text="ours"))
    view.replace(Listing([seen(version=4)], resource_version=5))
    assert view.get(newer.key) is newer


def test_a_view_may_change_while_it_is_walked_through(view: View[DemoInstance]) -> None:
    for i in range(3):
        view.take(seen(f"demo-{i}", version=i))
    for instance in view:
        view.forget(instance.key)
    assert len(view) == 0


def test_an_object_that_does_not_fit_is_refused_with_its_fields(view: View[DemoInstance]) -> None:
    body = make_instance().to_api()
    body["spec"]["ttl"] = "soon"
    body["spec"]["checkpointRef"] = {}
    with pytest.raises(UnreadableObjectError) as caught:
        view.observe(body)
    assert "spec.ttl" in str(caught.value)
    assert "1h30m" in str(caught.value)
    assert "spec.checkpointRef.name" in str(caught.value)
    assert len(view) == 0


def test_a_duration_beyond_all_calendars_makes_no_object_unreadable(
    view: View[DemoInstance],
) -> None:
    body = make_instance().to_api()
    body["spec"]["ttl"] = "9999999999d"
    assert view.observe(body).spec.ttl == timedelta(days=36500)
