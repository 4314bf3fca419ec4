"""Quantities as Kubernetes writes them: ``2``, ``500m``, ``512Mi``, ``1.5G``."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
"""Positive quantities without exponents: what people write for processors and memory
(Kubernetes API reference, "Quantity")."""

BYTES_PATTERN = r"^0*([1-9][0-9]*(\.[0-9]+)?|0?\.[0-9]*[1-9][0-9]*)(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"

_SUFFIXES = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{suffix: Decimal(1000) ** n for n, suffix in enumerate("kMGTP", start=1)},
    **{f"{suffix}i": Decimal(1024) ** n for n, suffix in enumerate("KMGTP", start=1)},
}


def parse_quantity(text: str) -> Decimal:
    """Read a quantity, in its base unit: cores or bytes.

    Raises:
        ValueError: the text is no quantity; the message shows how one looks.

    """
    found = re.fullmatch(PATTERN, text)
    if found is None:
        msg = f"{text!r} is not a quantity; write it like 2, 500m, 512Mi or 1.5G"
        raise ValueError(msg)
    suffix = found[2] or ""
    return Decimal(text.removesuffix(suffix)) * _SUFFIXES[suffix]


def _validate(value: Any) -> str:  # noqa: ANN401 - pydantic hands over whatever was there
    text = str(value)
    parse_quantity(text)
    return text


def _at_most(most: str) -> dict[str, str]:
    return {
        "rule": f"quantity(string(self)).compareTo(quantity('{most}')) <= 0",
        "message": f"must be at most {most}",
    }


Quantity = Annotated[
    str,
    BeforeValidator(_validate),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            "minimum": 0,
            "pattern": PATTERN,
            "x-kubernetes-validations": [_at_most("1M")],
        }
    ),
]
"""A quantity as it was written; ``parse_quantity`` gives its value."""


def _validate_bytes(value: Any) -> str:  # noqa: ANN401
    text = _validate(value)
    if not re.fullmatch(BYTES_PATTERN, text):
        msg = f"{text!r} is no amount of memory; write it like 512Mi or 1.5G"
        raise ValueError(msg)
    return text


Bytes = Annotated[
    str,
    BeforeValidator(_validate_bytes),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            "minimum": 1,
            "pattern": BYTES_PATTERN,
            "x-kubernetes-validations": [_at_most("1Pi")],
        }
    ),
]
"""A quantity of memory: more than nothing, and no thousandths of a byte."""
