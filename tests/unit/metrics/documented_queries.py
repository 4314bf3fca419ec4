"""Everything that our rules, dashboard and runbooks ask Prometheus.

``python -m tests.unit.metrics.documented_queries FILE`` writes it as a rules file, for promtool to
parse: it knows PromQL, and nothing of dashboards.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
RULES = ROOT / "charts/try-it-now/files/rules.yaml"
TESTS = ROOT / "manifests/prometheus/rules.test.yaml"
DASHBOARD = ROOT / "charts/try-it-now/files/dashboard.json"
RUNBOOKS = ROOT / "docs/runbooks"

VARIABLES = {"$__rate_interval": "5m", "$namespace": ".*", "$checkpoint": ".*", "$node": ".*"}
"""The dashboard's variables, as Grafana fills them in when all is chosen."""


@dataclass(frozen=True)
class Query:
    """An expression, and where it stands."""

    where: str
    expression: str


@functools.cache
def rules() -> list[dict[str, Any]]:
    """Return all rules, recorded series and alerts."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Return the rules that raise an alert."""
    return [rule for rule in rules() if "alert" in rule]


@functools.cache
def promql_checks() -> list[dict[str, Any]]:
    """Return what the tests of the rules ask, and expect."""
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    return [check for case in tests for check in case.get("promql_expr_test", ())]


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels, its rows' headings included."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def queries() -> Iterator[Query]:
    """Return all expressions."""
    for rule in rules():
        yield Query(rule.get("alert") or rule["record"], rule["expr"])
    for panel in panels():
        for target in panel.get("targets", ()):
            yield Query(panel["title"], target["expr"])
    for page in sorted(RUNBOOKS.glob("*.md")):
        for block in re.findall(r"```promql\n(.*?)```", page.read_text(), re.DOTALL):
            yield Query(page.name, block)


def main() -> None:
    """Write the file named by the first argument."""
    recorded = []
    for number, query in enumerate(queries()):
        expression = query.expression
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        recorded.append({"record": f"documented:{number}", "expr": expression})
    groups = {"groups": [{"name": "documented", "rules": recorded}]}
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(groups))


if __name__ == "__main__":
    main()
