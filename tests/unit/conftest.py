"""Parts that tests of several rooms work with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client as aio

from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.archive import ArchiveStore
from tryitnow.agent.node import Health, Node
from tryitnow.agent.ports import PortRange
from tryitnow.agent.prepared import DataStore
from tryitnow.agent.probe import open_session
from tryitnow.agent.volumes import VolumeStore
from tryitnow.client import asynchronous
from tryitnow.kubernetes.access import Access
from tryitnow.settings import agent_settings

ADDRESS = "127.77.0.1"
"""A loopback address of our own: ports of other programs on this machine are not in the way."""


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
async def node(
    tmp_path: Path, kubernetes: FakeKubernetes, podman: FakePodman
) -> AsyncIterator[Node]:
    """A healthy node-a; what it has to do with others is faked, all else is real."""
    token = tmp_path / "transfer-token"
    token.write_text("token of an agent\n")
    settings = agent_settings(
        {
            "NODE_NAME": "node-a",
            "NODE_ADDRESS": ADDRESS,
            "CHECKPOINT_PATH": str(tmp_path / "checkpoints"),
            "PORT_RANGE": "23000-23019",
            "TRANSFER_TOKEN_FILE": str(token),
        }
    )
    archives = ArchiveStore(settings.checkpoint_path)
    archives.open()
    data = DataStore(settings.data_path)
    data.open()
    volumes = VolumeStore(settings.volumes_path)
    volumes.open()
    async with open_session() as http:
        yield Node(
            settings=settings,
            kubernetes=kubernetes,
            podman=podman,
            archives=archives,
            data=data,
            volumes=volumes,
            ports=PortRange(settings.first_port, settings.last_port),
            http=http,
            health=Health(can_run=True, can_run_message="", criu_available=True, criu_message=""),
        )
