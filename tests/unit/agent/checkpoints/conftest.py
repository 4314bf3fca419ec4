"""The shop of most tests in this room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.unit.agent.checkpoints.shop import Shop
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.node import Node
from tryitnow.settings import AgentSettings


@pytest.fixture
async def settings(settings: AgentSettings) -> AgentSettings:
    """Settings of a node with more ports than its demos may need."""
    return replace(settings, max_instances=20)


@pytest.fixture
async def shop(node: Node, kubernetes: FakeKubernetes, podman: FakePodman) -> AsyncIterator[Shop]:
    made = Shop(node, kubernetes, podman)
    yield made
    await made.ends()
