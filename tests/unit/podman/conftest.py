"""A Podman client and the libpod that it talks to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.unit.podman.libpod import FakeLibpod
from tryitnow.podman.client import Podman
from tryitnow.settings import PodmanSettings


@pytest.fixture
async def libpod(tmp_path: Path) -> AsyncIterator[FakeLibpod]:
    socket = tmp_path / "podman.sock"
    fake = FakeLibpod(socket)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    # As Go's server does it: a request whose client is gone is cancelled.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    yield fake
    await runner.cleanup()


@pytest.fixture
async def podman(libpod: FakeLibpod) -> AsyncIterator[Podman]:
    podman = Podman(PodmanSettings(socket=libpod.url))
    yield podman
    podman.close()
