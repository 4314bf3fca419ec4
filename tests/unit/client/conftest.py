"""A client whose cluster is in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from kubernetes.aio import client as aio

from tests.unit.fakes import FakeKubernetes
from tryitnow.client import asynchronous
from tryitnow.kubernetes.access import Access


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
