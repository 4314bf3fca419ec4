"""Rules, dashboard and runbooks ask only for what the programs tell; each alert has its page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.metrics.documented_queries import (
    DASHBOARD,
    RUNBOOKS,
    Query,
    alerts,
    panels,
    promql_checks,
    queries,
    rules,
)
from tests.unit.metrics.promql import groupings, recorded, selectors
from tryitnow.api.checkpoint import CheckpointPhase
from tryitnow.api.demoinstance import DemoInstancePhase, StartedBy, StartPolicy, Timings
from tryitnow.api.nodeagent import Verdict
from tryitnow.api.nodecheckpoint import NodeCheckpointPhase
from tryitnow.doctor.checks import CheckName
from tryitnow.metrics.catalogue import ALL
from tryitnow.metrics.family import Family, Program, Timed

FAMILIES: dict[str, Family] = {series: family for family in ALL for series in family.series}

TARGET_LABELS = {"node", "instance"}
"""What a scrape adds (manifests/prometheus/scrape.yaml)."""

WORDS: dict[str, set[str]] = {
    "method": set(StartedBy),
    "policy": set(StartPolicy),
    "phase": {
        *CheckpointPhase, *NodeCheckpointPhase, *DemoInstancePhase, *Timings.model_fields,
    },
    "verdict": set(Verdict),
    "check": set(CheckName),
    "program": set(Program),
    "purpose": {"demo", "warm", "verify"},
}  # fmt: skip
"""Labels whose words are known; each value that they are compared with must be one of them."""


QUERIES = list(queries())
each_query = pytest.mark.parametrize("query", QUERIES, ids=[query.where for query in QUERIES])
each_alert = pytest.mark.parametrize("rule", alerts(), ids=[rule["alert"] for rule in alerts()])


@each_query
def test_each_metric_exists_with_the_labels_that_are_asked_for(query: Query) -> None:
    for selector in selectors(query.expression):
        family = FAMILIES.get(selector.series)
        assert family is not None, selector.series
        known = {*family.labels, *({"le"} if isinstance(family, Timed) else ())}
        assert {label for label, _ in selector.values} <= known, selector


@each_query
def test_each_query_groups_by_labels_that_are_there(query: Query) -> None:
    found = selectors(query.expression)
    if not found:
        return
    known = {label for selector in found for label in FAMILIES[selector.series].labels}
    assert groupings(query.expression) <= known | {"le"} | TARGET_LABELS


@each_query
def test_labels_are_compared_with_words_that_occur(query: Query) -> None:
    for selector in selectors(query.expression):
        for label, value in selector.values:
            if label in WORDS and not value.startswith("$"):
                assert value in WORDS[label], selector
            if label == "le":
                family = FAMILIES[selector.series]
                assert isinstance(family, Timed)
                assert float(value) in family.buckets


@each_query
def test_each_recorded_series_is_recorded(query: Query) -> None:
    assert recorded(query.expression) <= {rule["record"] for rule in rules() if "record" in rule}


@each_query
def test_each_query_asks_for_something(query: Query) -> None:
    assert selectors(query.expression) or recorded(query.expression)


@each_alert
def test_an_alert_says_what_it_is_how_bad_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    texts = rule["annotations"]
    assert texts["summary"]
    assert texts["description"].endswith(".")
    page = RUNBOOKS / f"{rule['alert']}.md"
    assert texts["runbook_url"].endswith(f"/docs/runbooks/{page.name}")
    assert page.exists()


@each_alert
def test_an_alert_has_a_case_that_fires_and_one_that_stays_quiet(rule: dict[str, Any]) -> None:
    wanted = f'alertname="{rule["alert"]}"'
    cases = [check["exp_samples"] for check in promql_checks() if wanted in check["expr"]]
    labels = [f'{name}="{value}"' for name, value in rule["labels"].items()]
    fires = [s["labels"] for case in cases for s in case]
    assert any(all(label in sample for label in labels) for sample in fires)
    assert [] in cases


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("TryItNow*.md")), ids=lambda p: p.stem)
def test_a_page_belongs_to_an_alert_and_says_what_to_do(page: Path) -> None:
    assert page.stem in {rule["alert"] for rule in alerts()}
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["What it means", "Look first", "Fix it", "When to escalate"]
    look_first = text.split("## Look first")[1].split("## ")[0]
    assert "```" in look_first


def test_the_list_of_pages_is_whole() -> None:
    text = (RUNBOOKS / "README.md").read_text()
    for rule in alerts():
        assert f"({rule['alert']}.md)" in text


def test_what_can_be_chosen_on_the_dashboard_exists() -> None:
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            (selector,) = selectors(variable["definition"])
            assert variable["name"] in FAMILIES[selector.series].labels


def test_panels_do_not_overlap_and_have_their_own_ids() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())
