"""Quantities, as Kubernetes writes them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import ValidationError

from tryitnow.api.quantity import parse_quantity
from tryitnow.api.template import ResourceLimits


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", Decimal(2)),
        ("500m", Decimal("0.5")),
        ("1.5", Decimal("1.5")),
        ("64Mi", Decimal(64 << 20)),
        ("2Gi", Decimal(2 << 30)),
        ("1k", Decimal(1000)),
        ("1.5G", Decimal(1_500_000_000)),
    ],
)
def test_what_people_write(text: str, value: Decimal) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    ("suffix", "value"),
    [
        *((letter, 1000**n) for n, letter in enumerate("kMGTP", start=1)),
        *((f"{letter}i", 1024**n) for n, letter in enumerate("KMGTP", start=1)),
    ],
)
def test_each_suffix_has_its_value(suffix: str, value: int) -> None:
    assert parse_quantity(f"3909460{suffix}") == 3909460 * value


@pytest.mark.parametrize("text", ["", "-1", "1e3", "64 Mi", "64MB", "m", "1.", "one"])
def test_what_is_none_shows_how_one_looks(text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        parse_quantity(text)


def test_a_plain_number_is_one_as_well() -> None:
    assert ResourceLimits.model_validate({"cpu": 2}).cpu == "2"


@pytest.mark.parametrize("text", ["1", "512Mi", "0.5Gi", "1.5G", "10k"])
def test_memory_is_a_quantity_of_bytes(text: str) -> None:
    assert ResourceLimits(memory=text).memory == text


@pytest.mark.parametrize("text", ["0", "0Mi", "0.0Gi", "512m", "-1", "1e3"])
def test_no_memory_and_thousandths_of_a_byte_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ResourceLimits(memory=text)
