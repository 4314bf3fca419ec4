"""Durations as people write them."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from tests.unit.builders import make_demo
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("1ms", 0.001),
        ("500ms", 0.5),
        ("1s", 1),
        ("1.25s", 1.25),
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h30m15s250ms", 5415.25),
        ("1.5h", 5400),
        ("7d", 7 * 86400),
        ("2d12h", 2.5 * 86400),
    ],
)
def test_people_write_durations_in_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", " 5s", "5s ", "-5s", "+5s", "5µs", "5S", "1h 30m", ".5s", "5.s",
             "5s\n", "1w", "one hour", "٥s"],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0004, "0ms"),
        (0.412, "412ms"),
        (1, "1s"),
        (1.25, "1.25s"),
        (90, "90s"),
        (99.9996, "100s"),
        (100, "100s"),
        (119, "119s"),
        (120, "2m"),
        (600, "10m"),
        (3600, "1h"),
        (5400, "1h30m"),
        (5401, "5401s"),
        (7 * 86400, "168h"),
    ],
)
def test_a_duration_is_written_in_at_most_two_units(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


def test_what_is_written_reads_back_to_the_millisecond() -> None:
    chance = random.Random(20260101)
    for _ in range(2000):
        value = timedelta(milliseconds=round(10 ** chance.uniform(0, 12)))
        text = format_duration(value)
        assert abs(parse_duration(text) - value) < timedelta(milliseconds=1), text


def test_a_resource_carries_the_text_outside_and_a_timedelta_inside() -> None:
    instance = make_demo(ttl=timedelta(minutes=90))
    assert instance.to_api()["spec"]["ttl"] == "1h30m"
    assert DemoInstance.model_validate(instance.to_api()).spec.ttl == timedelta(minutes=90)


@pytest.mark.parametrize(
    "text", ["36500d", "36501d", "9999999999d", "99999999999999999999999999999h"]
)
def test_a_duration_beyond_all_calendars_is_cut_to_a_hundred_years(text: str) -> None:
    assert parse_duration(text) == timedelta(days=36500)
