"""Where a program is scraped and asked how it is: ``/metrics``, ``/healthz``, ``/readyz``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from tryitnow.listening import Listener
from tryitnow.metrics.instruments import Metrics
from tryitnow.settings import InvalidSettingError

Missing = Callable[[], Sequence[str]]
"""Says what a program still has to do before it is of use; nothing when it is ready."""


@asynccontextmanager
async def serving(
    metrics: Metrics, missing: Missing, *, host: str | None, port: int
) -> AsyncIterator[None]:
    """Serve while the block runs.

    Args:
        metrics: What ``/metrics`` tells, with figures of the process itself.
        missing: What ``/readyz`` waits for.
        host: Address to listen on; None means all.
        port: TCP port.

    Raises:
        InvalidSettingError: the port cannot be listened on.

    """
    ProcessCollector(registry=metrics.registry)
    GCCollector(registry=metrics.registry)
    pages = _Pages(metrics, missing)
    app = web.Application()
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/healthz", pages.alive)
    app.router.add_get("/readyz", pages.ready)
    listener = Listener(app)
    try:
        try:
            await listener.start(host, port)
        except OSError as error:
            msg = f"METRICS_PORT={port}: cannot listen there: {error}; set it to a free port"
            raise InvalidSettingError(msg) from error
        yield
    finally:
        await listener.stop()


class _Pages:
    def __init__(self, metrics: Metrics, missing: Missing) -> None:
        self._registry = metrics.registry
        self._missing = missing

    async def metrics(self, request: web.Request) -> web.Response:
        # At the first scrape: it brings a server and a client of its own.
        from prometheus_client.exposition import choose_encoder

        # In the event loop on purpose: what states are read from may change in no other thread.
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def alive(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(self, _: web.Request) -> web.Response:
        if missing := self._missing():
            return web.Response(status=503, text=f"waiting for {', '.join(missing)}\n")
        return web.Response(text="ok\n")
