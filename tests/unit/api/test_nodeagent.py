"""What an agent's report says about its node."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.builders import NOW, make_agent
from tryitnow.api.nodeagent import LOST_AFTER, NodeAgent


@pytest.mark.parametrize(
    ("agent", "runs", "restores"),
    [
        (make_agent(), True, True),
        (make_agent(criu=False), True, False),
        (make_agent(ready=False), False, False),
        (make_agent(deleting=True), False, False),
        (make_agent(seen=None), False, False),
        (make_agent(seen=NOW - LOST_AFTER), True, True),
        (make_agent(seen=NOW - LOST_AFTER - timedelta(seconds=1)), False, False),
    ],
    ids=["healthy", "no CRIU", "no Podman", "leaving", "never seen", "just in time", "silent"],
)
def test_an_agent_is_used_only_for_what_it_can_do(
    agent: NodeAgent,
    runs: bool,  # noqa: FBT001
    restores: bool,  # noqa: FBT001
) -> None:
    assert agent.can_run(NOW) is runs
    assert agent.can_restore(NOW) is restores


def test_three_lost_reports_are_forgiven() -> None:
    assert not make_agent(seen=NOW - timedelta(seconds=35)).is_lost(NOW)
    assert make_agent(seen=NOW - timedelta(seconds=45)).is_lost(NOW)
