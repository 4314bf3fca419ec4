"""What `helm test` says of an installation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.builders import NOW, make_agent, make_silent_agent
from tryitnow.cli.check_installation import assess
from tryitnow.kubernetes.lease import Lease

LEASE = Lease(
    holder="controller-1", duration=timedelta(seconds=15), acquired=NOW, renewed=NOW, transitions=0
)


def test_a_leader_and_a_node_are_enough(capsys: pytest.CaptureFixture[str]) -> None:
    assert assess(LEASE, [make_agent("node-a"), make_silent_agent("node-b")], NOW) == []
    text = capsys.readouterr().out.splitlines()
    assert "controller: controller-1 leads" in text
    assert "node node-a: checkpoints and restores" in text
    assert "node node-b: runs no demos" in text


@pytest.mark.parametrize(
    "lease",
    [None, replace(LEASE, holder=""), replace(LEASE, renewed=NOW - timedelta(seconds=31))],
    ids=["never", "given back", "run out"],
)
def test_without_a_leader_it_says_where_to_check(lease: Lease | None) -> None:
    (problem,) = assess(lease, [make_agent()], NOW)
    assert "no controller leads" in problem
    assert "kubectl logs" in problem


def test_without_a_node_it_says_where_to_check() -> None:
    (problem,) = assess(LEASE, [make_silent_agent()], NOW)
    assert "no node can run demos" in problem


def test_a_node_that_only_starts_cold_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert assess(LEASE, [make_agent(criu=False)], NOW) == []
    text = capsys.readouterr().out
    assert "starts every demo cold" in text
    assert "CRIUAvailable: no criu" in text
