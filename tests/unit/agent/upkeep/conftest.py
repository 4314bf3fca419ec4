"""What tests of a node's upkeep work with: a shop, whose demos are what there is to lose."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.agent.demos.conftest import next_agent, shop
from tests.unit.agent.demos.shop import Clock
from tryitnow.agent.node import Node
from tryitnow.agent.suspects import AllSuspects

__all__ = ["clock", "next_agent", "shop"]

GRACE = timedelta(minutes=10)
RETENTION = timedelta(hours=24)


@pytest.fixture
def clock(node: Node) -> Clock:
    """The clock by which the node suspects things to be nobody's."""
    clock = Clock()
    node.suspects = AllSuspects.with_grace(GRACE, RETENTION, clock)
    return clock
