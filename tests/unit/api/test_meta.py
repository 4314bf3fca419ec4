"""What all resources have in common."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.unit.builders import (
    NOW,
    make_checkpoint,
    make_condition,
    make_demo,
    make_node_checkpoint,
)
from tryitnow.api.checkpoint import Checkpoint, CheckpointStatus
from tryitnow.api.demoinstance import RESET_ANNOTATION, DemoInstance
from tryitnow.api.meta import (
    Condition,
    ConditionStatus,
    Key,
    ObjectMeta,
    Resource,
    find_condition,
    set_condition,
    stored,
)
from tryitnow.api.nodecheckpoint import NodeCheckpointStatus

LATER = NOW + timedelta(minutes=5)


def test_the_transition_time_of_a_condition_moves_with_its_status_only() -> None:
    before = [make_condition("Ready", holds=False, reason="Building", at=NOW)]
    same = set_condition(before, "Ready", ConditionStatus.FALSE, "Failed", "why", at=LATER)
    assert same[0].last_transition_time == NOW
    assert (same[0].reason, same[0].message) == ("Failed", "why")
    other = set_condition(before, "Ready", ConditionStatus.TRUE, "Ready", at=LATER)
    assert other[0].last_transition_time == LATER


def test_other_conditions_and_their_order_stay() -> None:
    before = [make_condition("Ready"), make_condition("Verified"), make_condition("Theirs")]
    after = set_condition(before, "Verified", ConditionStatus.FALSE, "NotBuilt", generation=7)
    assert [c.type for c in after] == ["Ready", "Verified", "Theirs"]
    assert after[0] is before[0]
    assert after[2] is before[2]
    assert after[1].observed_generation == 7
    assert before[1].status is ConditionStatus.TRUE, "the list that was handed in is left alone"


def test_a_new_condition_is_added_at_the_end() -> None:
    after = set_condition([make_condition("Ready")], "Stalled", ConditionStatus.TRUE, "Failed")
    assert [c.type for c in after] == ["Ready", "Stalled"]
    assert find_condition(after, "Stalled") is after[1]
    assert find_condition(after, "Absent") is None


def test_a_message_is_cut_to_what_the_api_server_takes() -> None:
    [condition] = set_condition([], "Ready", ConditionStatus.FALSE, "Failed", "x" * 40_000)
    assert len(condition.message) == 32768


def test_times_are_written_in_utc_without_fractions() -> None:
    there = timezone(timedelta(hours=2))
    condition = make_condition("Ready", at=datetime(2026, 5, 4, 14, 3, 2, 987654, tzinfo=there))
    assert condition.to_api()["lastTransitionTime"] == "2026-05-04T12:03:02Z"
    assert Condition.model_validate(condition.to_api()).last_transition_time == datetime(
        2026, 5, 4, 12, 3, 2, tzinfo=UTC
    )


def test_a_resource_survives_the_way_to_the_api_server_and_back() -> None:
    for resource in (make_checkpoint(serving="0123456789"), make_node_checkpoint(), make_demo()):
        assert type(resource).model_validate(resource.to_api()) == resource


def test_fields_of_a_newer_definition_are_read_over() -> None:
    body = make_demo().to_api()
    body["spec"]["inventedTomorrow"] = True
    assert DemoInstance.model_validate(body) == make_demo()


def test_what_was_not_stored_is_reported_apart_from_defaults() -> None:
    body = make_checkpoint().to_api() | {"status": {"phase": "Building"}}
    read = Checkpoint.model_validate(body)
    assert stored(read.status) == {"phase": "Building"}
    assert stored(CheckpointStatus()) == {}


@pytest.mark.parametrize(
    ("key", "text"), [(Key("default", "shop"), "default/shop"), (Key("", "node-a"), "node-a")]
)
def test_a_key_reads_as_kubectl_writes_it(key: Key, text: str) -> None:
    assert str(key) == text


def test_keys_are_equal_by_namespace_and_name() -> None:
    assert make_demo("demo").key == Key("default", "demo")
    assert Resource.key_of({"namespace": "default", "name": "demo"}) == Key("default", "demo")
    assert Resource.key_of({"name": "node-a"}) == Key("", "node-a")


def test_an_owner_reference_makes_the_owned_object_go_along() -> None:
    reference = make_checkpoint().owner_reference()
    assert reference.to_api() == {
        "apiVersion": "tryitnow.dev/v1alpha1",
        "kind": "Checkpoint",
        "name": "shop",
        "uid": "uid-of-shop",
        "controller": True,
        "blockOwnerDeletion": True,
    }


def test_metadata_that_is_not_ours_is_not_written_over() -> None:
    assert stored(ObjectMeta(name="shop")) == {"name": "shop"}


def test_the_life_of_an_instance_is_counted_from_its_creation() -> None:
    assert make_demo(ttl=timedelta(hours=1)).expires_at() == NOW + timedelta(hours=1)
    assert make_demo(ttl=None).expires_at() is None


def test_a_life_that_outlasts_the_calendar_does_not_end() -> None:
    assert make_demo(ttl=timedelta(days=9_999_999)).expires_at() is None


def test_words_of_other_programs_are_cut_to_what_the_api_server_takes() -> None:
    status = NodeCheckpointStatus(progress="x" * 9000)
    assert len(status.progress) == 8192
    assert status.progress.endswith("…")
    copied = status.model_copy(update={"warm_message": "y" * 9000})
    assert len(copied.to_api()["warmMessage"]) == 8192


def test_of_a_request_for_a_reset_as_much_counts_as_the_status_keeps() -> None:
    demo = make_demo()
    request = "again " * 1000
    metadata = demo.metadata.model_copy(update={"annotations": {RESET_ANNOTATION: request}})
    asked = demo.model_copy(update={"metadata": metadata})
    assert asked.wants_reset
    handled = asked.status.model_copy(update={"reset_handled": asked.reset_request})
    assert not asked.model_copy(update={"status": handled}).wants_reset
