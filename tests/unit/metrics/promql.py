"""What a PromQL expression asks for, as far as our tests need to know.

No parser of PromQL: the names, selectors and groupings that our own rules and dashboard use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SELECTOR = re.compile(r"\b(?P<name>tryitnow_\w+)\s*(?:\{(?P<matchers>[^}]*)\})?")
_RECORDED = re.compile(r"\btryitnow:[\w:]+")
_MATCHER = re.compile(r'(?P<label>\w+)\s*(?P<operator>=~|!~|!=|=)\s*"(?P<value>[^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")


@dataclass(frozen=True)
class Selector:
    """A metric, and the values that its labels are compared with."""

    series: str
    values: tuple[tuple[str, str], ...]
    """Label and value, one by one: ``a=~"b|c"`` is two of them."""


def selectors(expression: str) -> list[Selector]:
    """Return the selectors of our metrics."""
    return [
        Selector(found["name"], tuple(_values(found["matchers"] or "")))
        for found in _SELECTOR.finditer(expression)
    ]


def recorded(expression: str) -> set[str]:
    """Return the names of the recorded series that are asked for."""
    return set(_RECORDED.findall(expression))


def groupings(expression: str) -> set[str]:
    """Return all labels by which something is grouped or matched."""
    return {
        label.strip()
        for found in _GROUPING.findall(expression)
        for label in found.split(",")
        if label.strip()
    }


def _values(matchers: str) -> list[tuple[str, str]]:
    return [
        (found["label"], value)
        for found in _MATCHER.finditer(matchers)
        for value in (found["value"].split("|") if "~" in found["operator"] else [found["value"]])
    ]
