"""The command line with a cluster in memory behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kubernetes.aio import client as aio

from tests.unit.builders import NOW
from tests.unit.fakes import FakeKubernetes
from tryitnow.cli import cluster, report, status
from tryitnow.cli.commands import tryitnow
from tryitnow.kubernetes import access
from tryitnow.kubernetes import client as kubernetes_client

Run = Callable[..., Result]


@pytest.fixture
def run(kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as a person would; the context's namespace is ``default``."""

    async def find_access(_context: str | None) -> access.Access:
        return access.Access(aio.Configuration(), "default")

    @asynccontextmanager
    async def connect(*_: Any, **__: Any) -> AsyncIterator[FakeKubernetes]:
        yield kubernetes

    for module in (cluster, access):
        monkeypatch.setattr(module, "find_access", find_access)
    for room in (cluster, kubernetes_client):
        monkeypatch.setattr(room, "connect", connect)
    for command in (status, report):
        monkeypatch.setattr(command, "now", lambda: NOW)

    def run(*words: str) -> Result:
        return CliRunner().invoke(tryitnow, words, catch_exceptions=False)

    return run
