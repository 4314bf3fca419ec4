"""What tests of a demo's life work with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.unit.agent.demos.shop import Shop
from tests.unit.conftest import healthy_node
from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, FakeHosts
from tryitnow.agent.node import Node
from tryitnow.settings import AgentSettings


@pytest.fixture
def shop(
    node: Node,
    kubernetes: FakeKubernetes,
    podman: FakePodman,
    firewall: FakeFirewall,
    hosts: FakeHosts,
) -> Shop:
    return Shop(node, kubernetes, podman, firewall, hosts)


@pytest.fixture
async def next_agent(
    shop: Shop,
    settings: AgentSettings,
    kubernetes: FakeKubernetes,
    podman: FakePodman,
    firewall: FakeFirewall,
    hosts: FakeHosts,
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Replaces the agent by a new one, which knows what cluster, Podman and disk tell it."""
    async with AsyncExitStack() as agents:

        async def begin() -> None:
            made = healthy_node(settings, kubernetes, podman, firewall, hosts)
            await shop.follow(await agents.enter_async_context(made))

        yield begin
