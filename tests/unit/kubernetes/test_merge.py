"""Merge patches between two states of an object."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.unit.fakes import merged
from tryitnow.kubernetes.merge import merge_patch

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {}, {"a": None}),
        ({}, {"a": 1}, {"a": 1}),
        ({}, {"a": {}}, {"a": {}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a": {"c": 3}}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": None}}),
        ({"a": {"b": 1}}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, {"a": [{"b": 2}]}),
        ({"a": 0}, {"a": ""}, {"a": ""}),
    ],
)
def test_a_patch_says_only_what_differs(old: Json, new: Json, patch: Json) -> None:
    assert merge_patch(old, new) == patch


def test_a_patch_applied_to_the_old_state_gives_the_new_one() -> None:
    chance = random.Random(7396)
    for _ in range(3000):
        old, new = _object(chance, 3), _object(chance, 3)
        assert merged(old, merge_patch(old, new)) == new


def test_what_somebody_else_wrote_meanwhile_stays() -> None:
    patch = merge_patch({"mine": 1}, {"mine": 2})
    assert merged({"mine": 1, "theirs": 3}, patch) == {"mine": 2, "theirs": 3}


def test_the_states_are_left_as_they_were() -> None:
    old, new = {"a": {"b": 1}}, {"a": {"c": 2}}
    merge_patch(old, new)
    assert old == {"a": {"b": 1}}
    assert new == {"a": {"c": 2}}


def _object(chance: random.Random, depth: int) -> Json:
    return {name: _value(chance, depth) for name in "abcd" if chance.random() < 0.6}


def _value(chance: random.Random, depth: int) -> Any:
    if depth and chance.random() < 0.5:
        return _object(chance, depth - 1)
    return chance.choice([0, 1, True, False, "", "text", [], [1, {"a": 2}]])
