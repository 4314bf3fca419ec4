"""``tryitnow explain-slow``: the step, the cause, the fix."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from tests.unit.builders import (
    NOW,
    make_agent,
    make_archive,
    make_checkpoint,
    make_condition,
    make_demo,
)
from tests.unit.cli.conftest import Run
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.demoinstance import (
    DemoInstance,
    DemoInstancePhase,
    FallbackReason,
    Pressure,
    StartedBy,
    StartPolicy,
    Timings,
)
from tryitnow.api.nodeagent import Check, Verdict
from tryitnow.cli import prometheus
from tryitnow.cli.distribution import Buckets, Samples
from tryitnow.cli.slow import Cause, Facts, causes


def seconds(**steps: float) -> Timings:
    return Timings(**{name: timedelta(seconds=took) for name, took in steps.items()})


def demo(
    name: str = "annas",
    *,
    started_by: StartedBy = StartedBy.RESTORE,
    start: StartPolicy = StartPolicy.PREFER_RESTORE,
    waited: float = 0.0,
    fallback: FallbackReason | None = None,
    message: str = "",
    **steps: float,
) -> DemoInstance:
    timings = seconds(**steps)
    return make_demo(
        name,
        start=start,
        node="node-a",
        phase=DemoInstancePhase.READY,
        conditions=(make_condition("Ready"),),
        started_by=started_by,
        fallback_reason=fallback,
        fallback_message=message or None,
        timings=timings,
        ready_at=NOW + (timings.total or timedelta()) + timedelta(seconds=waited),
    )


def only(facts: Facts) -> Cause:
    [cause] = causes(facts)
    return cause


@pytest.mark.parametrize(
    ("slow", "name", "fix"),
    [
        (demo(queue=3, restore=0.3, total=3.4), "queue", "spec.pool.warm"),
        (demo(prepare=3, restore=0.3, total=3.4), "image pull", "prune images"),
        (demo(restore=3, criu=2.9, total=3.4), "disk", "faster disk"),
        (demo(restore=3, criu=0.2, total=3.4), "Podman", "disk and load"),
        (demo(probe=3, restore=0.3, total=3.4), "probe", "spec.warmUp.paths"),
        (demo(hooks=3, restore=0.3, total=3.4), "hooks", "beforeCheckpoint"),
        (demo(bind=3, restore=0.3, total=3.4), "controller", "workqueue"),
        (demo(claim=3, restore=0.3, total=3.4), "memory", "spec.pool.pause"),
    ],
)
def test_the_step_that_took_longest_has_a_cause_and_a_fix(
    slow: DemoInstance, name: str, fix: str
) -> None:
    cause = only(Facts(slow, {}))
    assert cause.name == name
    assert "3.00 s" in cause.evidence
    assert fix in cause.fix


def test_a_large_archive_is_the_cause_where_criu_reads_it() -> None:
    checkpoint = make_checkpoint(serving="r", archive=make_archive(size_bytes=2 << 30))
    cause = only(Facts(demo(restore=3, criu=2.9, total=3.1), {}, checkpoint=checkpoint))
    assert cause.name == "archive"


@pytest.mark.parametrize("reason", list(FallbackReason))
def test_every_reason_of_a_cold_start_has_a_fix(reason: FallbackReason) -> None:
    slow = demo(
        started_by=StartedBy.COLD_START, fallback=reason, message="look", cold_start=1, total=1
    )
    first = causes(Facts(slow, {}))[0]
    assert f"{reason}: look" in first.evidence
    assert first.fix


def test_a_node_that_cannot_restore_brings_its_doctors_remedy() -> None:
    slow = demo(
        started_by=StartedBy.COLD_START,
        fallback=FallbackReason.CRIU_NOT_AVAILABLE,
        cold_start=1,
        total=1,
    )
    check = Check(name="CRIU", verdict=Verdict.FAIL, found="none", remedy="apt-get install criu")
    agent = make_agent("node-a", criu=False)
    agent = agent.model_copy(
        update={"status": agent.status.model_copy(update={"checks": (check,)})}
    )
    assert causes(Facts(slow, {}, agent=agent))[0].fix == "CRIU: apt-get install criu"


def test_a_cold_start_that_was_asked_for_is_no_failure() -> None:
    slow = demo(started_by=StartedBy.COLD_START, start=StartPolicy.COLD_START, total=1)
    assert only(Facts(slow, {})).evidence == "spec.start asks for a cold start"


def test_what_it_waited_before_is_seen() -> None:
    cause = only(Facts(demo(waited=30, total=0.1), {}))
    assert cause.name == "queue"
    assert "30.00 s before" in cause.evidence


def test_a_node_short_of_memory_is_seen() -> None:
    cause = only(Facts(demo(total=0.1), {}, agent=make_agent("node-a", memory=0)))
    assert cause.name == "memory"


def under(pressure: Pressure, *, restore: float = 3, total: float = 3.4) -> list[str]:
    slow = demo(restore=restore, total=total)
    status = slow.status.model_copy(update={"pressure": pressure})
    found = causes(Facts(slow.model_copy(update={"status": status}), {}))
    return [f"{cause.name}: {cause.evidence}" for cause in found if "PSI" in cause.evidence]


def test_a_node_on_which_processes_wait_is_seen() -> None:
    waited = under(Pressure(cpu=90, io=40, memory=20))
    assert waited == [
        "processor: processes of node-a waited for a processor in 90 % of the start (PSI)",
        "disk: processes of node-a waited for a disk in 40 % of the start (PSI)",
        "memory: processes of node-a waited for memory in 20 % of the start (PSI)",
    ]
    assert under(Pressure(cpu=30, io=10, memory=1)) == []
    assert under(Pressure(cpu=100), restore=0.2, total=0.3) == [], "it is not slow"


def test_a_short_step_counts_when_it_is_longer_than_almost_everywhere_else() -> None:
    slow = demo(probe=0.2, restore=1.9, criu=1.8, total=2.1)
    usual = {"probe": Samples([0.01] * 20)}
    assert {cause.name for cause in causes(Facts(slow, {}))} == {"disk"}
    assert {cause.name for cause in causes(Facts(slow, usual))} == {"disk", "probe"}
    few = {"probe": Samples([0.01] * 4)}
    assert {cause.name for cause in causes(Facts(slow, few))} == {"disk"}


def test_nothing_stands_out_of_a_quick_start(run: Run, kubernetes: FakeKubernetes) -> None:
    kubernetes.put(demo(claim=0.02, total=0.03, started_by=StartedBy.WARM))
    assert "Nothing stands out" in run("explain-slow", "annas").output


def test_steps_are_compared_with_demos_that_were_started_alike(
    run: Run, kubernetes: FakeKubernetes
) -> None:
    kubernetes.put(demo(restore=4, criu=3, total=4.2))
    for number in range(10):
        kubernetes.put(demo(f"other-{number}", restore=1 + number / 10, total=2))
    kubernetes.put(demo("cold", started_by=StartedBy.COLD_START, cold_start=9, total=9))
    reported = json.loads(run("explain-slow", "annas", "-o", "json").output)
    restore, total = (
        next(step for step in reported["steps"] if step["name"] == name)
        for name in ("restore", "total")
    )
    assert restore == {
        "name": "restore",
        "seconds": 4.0,
        "p50Seconds": 1.4,
        "p95Seconds": 1.9,
        "slowerThan": 1.0,
        "compared": 10,
    }
    assert (total["compared"], total["p95Seconds"]) == (11, 9.0)
    assert [cause["name"] for cause in reported["causes"]] == ["disk"]


def test_one_that_never_became_ready_points_to_its_story(
    run: Run, kubernetes: FakeKubernetes
) -> None:
    kubernetes.put(make_demo("annas"))
    done = run("explain-slow", "annas")
    assert done.exit_code == 6
    assert "tryitnow status demo/annas" in done.output


def test_percentiles_are_times_that_were_measured() -> None:
    samples = Samples([5.0, 1.0, 2.0, 3.0, 4.0])
    assert (samples.quantile(0.5), samples.quantile(0.95), samples.count) == (3.0, 5.0, 5)
    assert samples.share_below(3.5) == 0.6


def test_a_histogram_is_read_as_prometheus_reads_it() -> None:
    buckets = Buckets([(0.1, 0.0), (0.2, 50.0), (0.5, 100.0), (math.inf, 100.0)])
    assert buckets.quantile(0.5) == pytest.approx(0.2)
    assert buckets.quantile(0.75) == pytest.approx(0.35)
    assert buckets.share_below(0.15) == pytest.approx(0.25)
    assert buckets.share_below(9) == 1.0
    assert Buckets([(0.1, 1.0), (math.inf, 2.0)]).quantile(0.99) == 0.1


@pytest.fixture
async def prometheus_url() -> AsyncIterator[str]:
    """A Prometheus with 100 restores of at most 0.2 s, and nothing else."""

    async def answer(request: web.Request) -> web.Response:
        query = request.query["query"]
        if "tryitnow_start_phase_duration_seconds_bucket" not in query:
            return web.json_response({"status": "success", "data": {"result": []}})
        assert 'method="Restore"' in query
        rows: list[dict[str, Any]] = [
            {"metric": {"phase": "restore", "le": bound}, "value": [0, number]}
            for bound, number in (("+Inf", "100"), ("0.2", "100"), ("0.1", "50"))
        ]
        return web.json_response({"status": "success", "data": {"result": rows}})

    app = web.Application()
    app.router.add_get("/api/v1/query", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


async def test_a_prometheus_knows_the_last_day(prometheus_url: str) -> None:
    found = await prometheus.distributions(prometheus_url, demo(restore=1, total=1))
    assert list(found) == ["restore"]
    assert found["restore"].count == 100
    assert found["restore"].quantile(0.5) == pytest.approx(0.1)


async def test_what_is_no_prometheus_is_reported(prometheus_url: str) -> None:
    with pytest.raises(Exception, match="does not answer as a Prometheus"):
        await prometheus.distributions(f"{prometheus_url}/wrong", demo(restore=1, total=1))


def test_without_the_node_and_the_checkpoint_less_is_explained(
    run: Run, kubernetes: FakeKubernetes
) -> None:
    kubernetes.put(demo(restore=3, criu=2.9, total=3.1))
    assert "disk: restore took 3.00 s" in run("explain-slow", "annas").output
