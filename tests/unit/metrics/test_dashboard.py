"""The dashboard is one that Grafana knows: each field is of its schema, and of the right type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.unit.metrics.documented_queries import DASHBOARD

BESIDE_THE_SCHEMA = {"definition"}
"""Grafana writes it into a variable that is a query, as what its editor shows."""


def differences(path: str, ours: object, known: object) -> Iterator[str]:
    """Name what is missing or another where the schema's classes have read it."""
    if isinstance(ours, dict) and isinstance(known, dict):
        for name in ours.keys() - BESIDE_THE_SCHEMA:
            yield from differences(f"{path}/{name}", ours[name], known.get(name))
    elif isinstance(ours, list) and isinstance(known, list) and len(ours) == len(known):
        for number, (one, other) in enumerate(zip(ours, known, strict=True)):
            yield from differences(f"{path}/{number}", one, other)
    elif ours != known:
        yield f"{path}: {ours!r}, read as {known!r}"


def unknown(dashboard: dict[str, Any]) -> list[str]:
    """Name the fields that the schema does not have, or not so."""
    # Without these the options of panels and queries are read as they come.
    register_default_plugins()
    read = Dashboard.from_json(dashboard)
    known = json.loads(JSONEncoder(sort_keys=True).encode(read))
    return list(differences("", dashboard, known))


def test_grafanas_schema_knows_every_field_of_the_dashboard() -> None:
    assert unknown(json.loads(DASHBOARD.read_text())) == []


@pytest.mark.parametrize("part", ["targets", "options", "fieldConfig"])
def test_a_field_that_does_not_exist_is_found(part: str) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panel = next(panel for panel in dashboard["panels"] if panel["type"] == "timeseries")
    where = panel[part][0] if part == "targets" else panel[part]
    where["misspelt"] = 1
    (found,) = unknown(dashboard)
    assert "misspelt" in found
