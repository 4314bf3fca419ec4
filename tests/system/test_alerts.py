"""A real Prometheus watches: slow restores raise their alert, and the runbook shows the cause."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

import pytest

from lab.cluster import Cluster
from lab.prometheus import INTERVAL_SECONDS
from tests.system import runbooks
from tests.system.nodes import NODES
from tests.system.notes import notes_spec, on_node
from tests.system.objects import Objects, wait_until
from tests.system.prometheus import SEEN_WITHIN, Series
from tests.system.slow_restores import (
    ALERT,
    CHECKPOINT,
    STARTS,
    WAKE_SECONDS,
    SlowRestores,
    make,
)
from tests.system.terminal import Terminal
from tests.unit.metrics.documented_queries import VARIABLES, Query, queries
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.api.nodeagent import NodeAgent, Verdict
from tryitnow.doctor.checks import CheckName

OBJECTIVE_SECONDS = 2.0


@pytest.fixture(scope="module")
def slow_restores(cluster: Cluster, module_objects: Objects, notes_image: str) -> SlowRestores:
    """Restores that were too slow. Prometheus counts two minutes then: what waits comes last."""
    return make(cluster, module_objects, notes_image)


def test_the_slow_demos_say_themselves_what_took_the_time(slow_restores: SlowRestores) -> None:
    assert len(slow_restores.demos) == STARTS
    rows = slow_restores.table.splitlines()
    heading = rows[0].split()
    shown = {row.split()[0]: dict(zip(heading, row.split(), strict=True)) for row in rows[1:]}
    for demo in slow_restores.demos:
        status = demo.status
        assert status.started_by is StartedBy.RESTORE
        assert status.timings
        assert status.timings.total
        assert status.timings.total.total_seconds() > OBJECTIVE_SECONDS
        probe = shown[demo.metadata.name]["PROBE"]
        assert float(probe.removesuffix("s")) >= WAKE_SECONDS, slow_restores.table


def test_explain_slow_compares_with_the_last_day_in_prometheus(
    slow_restores: SlowRestores, terminal: Terminal, cluster: Cluster
) -> None:
    demo = slow_restores.demos[0].metadata.name
    asked = f"tryitnow explain-slow {demo} --prometheus {cluster.prometheus} -o json"
    found = json.loads(terminal.run(asked).stdout)
    (probe,) = (step for step in found["steps"] if step["name"] == "probe")
    # Prometheus reckons how much a counter grew; it is no exact number.
    assert probe["compared"] >= STARTS // 2
    assert found["causes"][0]["name"] == "probe"


def test_every_program_is_scraped(slow_restores: SlowRestores) -> None:
    found = slow_restores.prometheus.query("up", slow_restores.seen)
    assert {(s.labels["job"], s.labels.get("node"), s.value) for s in found} == {
        ("tryitnow-controller", None, 1.0),
        *(("tryitnow-agent", node, 1.0) for node in NODES),
    }


def test_every_rule_evaluates(slow_restores: SlowRestores) -> None:
    rules = slow_restores.prometheus.rules()
    assert rules
    assert {r["name"]: r.get("lastError") for r in rules if r["health"] != "ok"} == {}


def may_be_empty(query: Query) -> bool:
    """Whether an expression has no answer where all is well: it compares, or counts failures."""
    expression = re.sub(r"\{[^}]*\}", "", query.expression)
    return bool(
        re.search(r"[<>]|==", expression)
        or re.search(r"_(errors|failures|quarantines|refusals|restarts|retries)_total", expression)
        or re.search(r'result!="(Verified|Fetched)"', query.expression)
    )


def test_every_query_of_rules_dashboard_and_runbooks_answers(slow_restores: SlowRestores) -> None:
    prometheus, at = slow_restores.prometheus, slow_restores.seen
    mute = []
    for query in queries():
        expression = query.expression
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        # A subquery looks at whole minutes only: the next one will do as well.
        found = prometheus.query(expression, at) or prometheus.query(expression, at + 60)
        if not found and not may_be_empty(query):
            mute.append(query)
    assert mute == []


@pytest.fixture(scope="module")
def troubled(cluster: Cluster, module_objects: Objects) -> Iterator[dict[str, str]]:
    """Something for the runbooks to show, and the words to put into their commands."""
    objects = module_objects
    agent = f"agent-{NODES[0]}"
    cluster.restart(agent, {"CRIU_ENABLED": "false"})
    try:
        objects.checkpoint(
            "broken",
            notes_spec(
                "registry.lab:5000/no-such:1", pool={"warm": 2}, distribution=on_node(NODES[1])
            ),
        )
        objects.demo("waits", "no-such")
        objects.wait(Checkpoint, "broken", lambda c: c.status.last_failure is not None)
        objects.wait(DemoInstance, "waits", lambda d: bool(d.status.conditions))
        objects.agent(NODES[0], _has_criu_switched_off)
        yield {"NAMESPACE": objects.namespace, "NAME": "broken", "NODE": NODES[0]}
    finally:
        cluster.restart(agent, {"CRIU_ENABLED": None})


def _has_criu_switched_off(agent: NodeAgent) -> bool:
    checks = {check.name: check.verdict for check in agent.status.checks}
    return checks.get(CheckName.CRIU_ENABLED) is Verdict.FAIL


SHOWS = {
    "TryItNowAgentDown": "node-1",
    "TryItNowCheckpointDirectoryNearlyFull": 'node="node-2"',
    "TryItNowCheckpointFailed": "ImagePullFailed: spec.template.containers[0].image",
    "TryItNowCheckpointStuck": "cannot be pulled",
    "TryItNowClockUncertain": "tryitnow_clock_certain",
    "TryItNowControllerDown": "tryitnow-controller",
    "TryItNowDataLost": "waits",
    "TryItNowDemosNotAnswering": "waits",
    "TryItNowDoctorFails": "fix: ",
    "TryItNowFallbackRatioHigh": 'fallback_reason="',
    "TryItNowInstancesWait": "waits",
    "TryItNowNodeCheckpointsMissing": "broken",
    "TryItNowPoolExhausted": "0/2",
    "TryItNowPoolTooSmall": 'result="Claimed"',
    "TryItNowRestoreP99High": 'method="Restore"',
    "TryItNowRestoresFail": 'result="',
    "TryItNowRestoresSlow": 'phase="probe"',
    "TryItNowStorageChanged": "StorageKnown",
}
"""What the first command of each page must show."""


@pytest.mark.usefixtures("slow_restores")
@pytest.mark.parametrize("page", runbooks.PAGES)
def test_each_command_of_a_runbook_works_and_the_first_shows_the_cause(
    page: str, cluster: Cluster, troubled: dict[str, str]
) -> None:
    commands = runbooks.commands(page, troubled)
    shown = [runbooks.run(cluster, command) for command in commands]
    assert SHOWS[page] in shown[0]


def alert_states(slow: SlowRestores) -> dict[str, Series]:
    whose = f'namespace="{slow.namespace}", checkpoint="{CHECKPOINT}"'
    found = slow.prometheus.query(f'ALERTS{{alertname="{ALERT}", window="1h", {whose}}}[1h]')
    return {series.labels["alertstate"]: series for series in found}


@pytest.fixture(scope="module")
def fired(slow_restores: SlowRestores) -> dict[str, Series]:
    """The alert's states, once it has fired."""
    (rule,) = (
        rule for rule in slow_restores.prometheus.rules()
        if rule["name"] == ALERT and rule["labels"]["window"] == "1h"
    )  # fmt: skip
    wait_until(
        lambda: "firing" in alert_states(slow_restores),
        f"{ALERT} to fire",
        rule["duration"] + SEEN_WITHIN,
    )
    return alert_states(slow_restores)


def test_slow_restores_fire_their_alert_as_soon_as_its_time_has_passed(
    fired: dict[str, Series], slow_restores: SlowRestores
) -> None:
    pending, firing = fired["pending"].samples, fired["firing"].samples
    assert pending[0][0] > slow_restores.began
    assert pending[0][0] - slow_restores.seen <= SEEN_WITHIN
    waited = firing[0][0] - pending[0][0]
    assert 120 <= waited <= 120 + 3 * INTERVAL_SECONDS
    assert fired["firing"].labels["severity"] == "critical"


def test_the_first_command_of_its_runbook_names_the_step_and_the_node(
    fired: dict[str, Series], slow_restores: SlowRestores
) -> None:
    first = runbooks.commands(ALERT, {})[0]
    at = fired["firing"].samples[0][0]
    found = slow_restores.prometheus.query(first.text, at)
    worst = max((s for s in found if not math.isnan(s.value)), key=lambda series: series.value)
    assert worst.labels["phase"] == "probe"
    assert worst.labels["node"] in NODES
