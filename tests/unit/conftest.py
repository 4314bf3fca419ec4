"""Parts that tests of several rooms work with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client as aio

from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.client import asynchronous
from tryitnow.kubernetes.access import Access

collect_ignore_glob = [
    "agent/*",
    "metrics/test_agent_metrics.py",
    "podman/test_podman_client.py",
]
"""They use the resources as they were. The branch that rewrites the agent updates them."""

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
