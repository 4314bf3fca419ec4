"""Counting, timing and reading states, as a scrape shows them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.metrics.scrape import scrape
from tryitnow import __version__
from tryitnow.metrics.catalogue import ALL
from tryitnow.metrics.family import Program
from tryitnow.metrics.instruments import Metrics, Reading
from tryitnow.metrics.node import AGENT_PORTS_TAKEN, FETCHED_BYTES
from tryitnow.metrics.starts import CLAIMS, START_DURATION

SHOP = {"namespace": "default", "checkpoint": "shop"}


def test_what_is_counted_is_scraped() -> None:
    metrics = Metrics()
    metrics.count(CLAIMS, **SHOP, result="Claimed")
    metrics.count(CLAIMS, **SHOP, result="Claimed")
    metrics.count(FETCHED_BYTES, 4096)
    found = scrape(metrics)
    assert found.value("tryitnow_claims_total", **SHOP, result="Claimed") == 2
    assert found.value("tryitnow_fetched_bytes_total") == 4096


def test_a_time_on_a_bound_keeps_it() -> None:
    metrics = Metrics()
    metrics.observe(START_DURATION, 2.0, **SHOP, method="Restore")
    metrics.observe(START_DURATION, 2.001, **SHOP, method="Restore")
    found = scrape(metrics)
    assert found.value("tryitnow_start_duration_seconds_bucket", le="2.0") == 1
    assert found.value("tryitnow_start_duration_seconds_count") == 2


def test_what_is_expected_is_there_before_it_happens() -> None:
    metrics = Metrics()
    metrics.expect(CLAIMS, **SHOP, result="Empty")
    metrics.expect(START_DURATION, **SHOP, method="Warm")
    found = scrape(metrics)
    assert found.value("tryitnow_claims_total", **SHOP, result="Empty") == 0
    assert found.value("tryitnow_start_duration_seconds_count", **SHOP, method="Warm") == 0


def test_states_are_read_at_each_scrape() -> None:
    metrics, taken = Metrics(), [3]

    def read() -> Iterator[Reading]:
        yield Reading(AGENT_PORTS_TAKEN, taken[0])

    metrics.read_from(read)
    assert scrape(metrics).value("tryitnow_agent_ports_taken") == 3
    taken[0] = 4
    assert scrape(metrics).value("tryitnow_agent_ports_taken") == 4


def test_what_nobody_can_tell_is_absent_rather_than_zero() -> None:
    assert scrape(Metrics()).value("tryitnow_agent_ports_taken") is None


def test_two_programs_in_one_process_do_not_mix() -> None:
    one, other = Metrics(Program.AGENT), Metrics(Program.AGENT)
    one.count(FETCHED_BYTES, 1)
    assert scrape(other).value("tryitnow_fetched_bytes_total") == 0


@pytest.mark.parametrize("program", list(Program))
def test_a_program_says_which_version_it_is(program: Program) -> None:
    found = scrape(Metrics(program))
    labels = {"program": str(program), "version": __version__}
    assert found.value("tryitnow_build_info", **labels) == 1


def test_the_controller_does_not_offer_what_only_agents_know() -> None:
    metrics = Metrics(Program.CONTROLLER)
    with pytest.raises(KeyError):
        metrics.count(FETCHED_BYTES)


def test_series_of_what_is_gone_end() -> None:
    metrics = Metrics()
    other = {"namespace": "default", "checkpoint": "wiki"}
    for labels in (SHOP, other):
        metrics.count(CLAIMS, **labels, result="Empty")
        metrics.observe(START_DURATION, 1, **labels, method="Warm")
    metrics.count(FETCHED_BYTES, 1)
    metrics.forget(**SHOP)
    found = scrape(metrics)
    assert not found.all("tryitnow_claims_total", **SHOP)
    assert not found.all("tryitnow_start_duration_seconds_count", **SHOP)
    assert found.value("tryitnow_claims_total", **other) == 1
    assert found.value("tryitnow_fetched_bytes_total") == 1


def test_nothing_is_scraped_that_is_not_declared() -> None:
    metrics = Metrics()
    metrics.observe(START_DURATION, 1, **SHOP, method="Warm")
    metrics.count(CLAIMS, **SHOP, result="Empty")
    declared = {series for family in ALL for series in family.series}
    assert scrape(metrics).names() <= declared
