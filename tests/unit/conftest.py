"""Parts that tests of several rooms work with."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client as aio

from tests.unit.fakes import FakeKubernetes, FakePodman
from tests.unit.sandbox import FakeFirewall, FakeHosts, FakeOutbound, FakeProber
from tryitnow.agent import main
from tryitnow.agent.health import Health
from tryitnow.agent.main import build_node
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox.leftovers import Conmons
from tryitnow.agent.sandbox.probe import open_session
from tryitnow.api.archive import Versions
from tryitnow.client import asynchronous
from tryitnow.kubernetes.access import Access
from tryitnow.metrics.family import Program
from tryitnow.metrics.instruments import Metrics
from tryitnow.settings import AgentSettings, agent_settings

ADDRESS = f"127.77.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"
"""A loopback address of our own: ports of other programs on this machine are not in the way, nor
those of other tests that run at the same time."""


@pytest.fixture
def kubernetes() -> FakeKubernetes:
    return FakeKubernetes()


@pytest.fixture
def reached(kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch) -> FakeKubernetes:
    """The cluster that every client of the test reaches, in the namespace ``shops``."""

    async def find_access(_context: str | None) -> Access:
        return Access(aio.Configuration(), "shops")

    @asynccontextmanager
    async def connect(*_: Any, **__: Any) -> AsyncIterator[FakeKubernetes]:
        yield kubernetes

    monkeypatch.setattr(asynchronous, "find_access", find_access)
    monkeypatch.setattr(asynchronous, "connect", connect)
    return kubernetes


@pytest.fixture
async def podman(tmp_path: Path) -> AsyncIterator[FakePodman]:
    fake = FakePodman(ADDRESS, tmp_path / "containers")
    yield fake
    await fake.shut()


@pytest.fixture
async def settings(tmp_path: Path) -> AgentSettings:
    """Settings of a healthy node-a."""
    token = tmp_path / "transfer-token"
    token.write_text("token of an agent\n")
    return agent_settings(
        {
            "NODE_NAME": "node-a",
            "NODE_ADDRESS": ADDRESS,
            "CHECKPOINT_PATH": str(tmp_path / "try-it-now" / "checkpoints"),
            "PORT_RANGE": "23000-23039",
            "MAX_INSTANCES": "20",
            "MEMORY_RESERVE_MIB": "0",
            "DISK_RESERVE": "0",
            "TRANSFER_TOKEN_FILE": str(token),
        }
    )


@pytest.fixture
def firewall() -> FakeFirewall:
    return FakeFirewall()


@pytest.fixture
def outbound() -> FakeOutbound:
    return FakeOutbound()


@pytest.fixture
def hosts() -> FakeHosts:
    return FakeHosts()


def no_conmons(proc: Path) -> Conmons:
    """A node without processes: those of the machine are none of a test's business."""
    proc.mkdir(parents=True, exist_ok=True)
    return Conmons(proc)


def nobody_listens_here(port: int) -> bool:
    """As the agent asks it, of our own address alone: others test on the same ports meanwhile."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


@asynccontextmanager
async def healthy_node(
    settings: AgentSettings,
    kubernetes: FakeKubernetes,
    podman: FakePodman,
    firewall: FakeFirewall,
    hosts: FakeHosts,
    outbound: FakeOutbound | None = None,
) -> AsyncIterator[Node]:
    """A healthy node-a; what it has to do with others is faked, all else is real."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(main, "nobody_listens", nobody_listens_here)
        async with open_session() as http:
            made = build_node(
                settings,
                kubernetes,
                podman,
                FakeProber(settings, http),
                firewall,
                hosts,
                no_conmons(settings.data_path.parent / "proc"),
                outbound or FakeOutbound(),
                Metrics(Program.AGENT),
            )
            made.health.current = Health(
                can_run=True,
                can_run_message="",
                criu_available=True,
                criu_message="",
                versions=SOFTWARE,
                controllers=frozenset({"cpu", "memory", "pids"}),
            )
            await made.guard.examine(anything_at_stake=False)
            yield made
            await made.checkpoints.stop()


SOFTWARE = Versions(
    kernel="6.18",
    criu="4.2.1",
    podman="5.8.6",
    runtime="crun 1.28",
    cpu_features=("avx", "fxsr", "xsave"),
)
"""Of a healthy node-a."""


@pytest.fixture
async def node(
    settings: AgentSettings,
    kubernetes: FakeKubernetes,
    podman: FakePodman,
    firewall: FakeFirewall,
    hosts: FakeHosts,
    outbound: FakeOutbound,
) -> AsyncIterator[Node]:
    async with healthy_node(settings, kubernetes, podman, firewall, hosts, outbound) as made:
        yield made
