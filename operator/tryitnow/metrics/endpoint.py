"""Where a program is scraped and asked how it is: ``/metrics``, ``/healthz``, ``/readyz``."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from tryitnow.listening import Listener
from tryitnow.metrics.instruments import Metrics
from tryitnow.settings import InvalidSettingError

logger = logging.getLogger(__name__)

KEPT_SECONDS = 1.0
"""How long an answer is given again: scrapes by strangers, however many, cost one a second."""

Missing = Callable[[], Sequence[str]]
"""Says what a program still has to do before it is of use; nothing when it is ready."""


@asynccontextmanager
async def serving(
    metrics: Metrics,
    missing: Missing,
    *,
    host: str | None,
    port: int,
    token_file: Path | None = None,
) -> AsyncIterator[None]:
    """Serve while the block runs.

    Args:
        metrics: What ``/metrics`` tells, with figures of the process itself.
        missing: What ``/readyz`` waits for.
        host: Address to listen on; None means all.
        port: TCP port.
        token_file: Holds the token that a scrape must show; None means that none is needed. It is
            read again and again: a new one needs no restart.

    Raises:
        InvalidSettingError: the port cannot be listened on.

    """
    ProcessCollector(registry=metrics.registry)
    GCCollector(registry=metrics.registry)
    pages = _Pages(metrics, missing, token_file)
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
    def __init__(self, metrics: Metrics, missing: Missing, token_file: Path | None) -> None:
        self._registry = metrics.registry
        self._missing = missing
        self._token_file = token_file
        self._token = b""
        self._token_read_at = -KEPT_SECONDS
        self._kept: dict[str, tuple[bytes, float]] = {}

    async def metrics(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        # At the first scrape: it brings a server and a client of its own.
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        now = time.monotonic()
        body, kept_at = self._kept.get(content_type, (b"", now - KEPT_SECONDS))
        if now - kept_at >= KEPT_SECONDS:
            # In the event loop on purpose: what states are read from may change in no other thread.
            body = encode(self._registry)
            self._kept[content_type] = body, now
        return web.Response(body=body, headers={"Content-Type": content_type})

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self._token_file is None:
            return None
        now = time.monotonic()
        if now - self._token_read_at >= KEPT_SECONDS:
            self._token, self._token_read_at = _read_token(self._token_file), now
        if not self._token:
            text = "no scrape is answered: the token's file cannot be read or is empty\n"
            return web.Response(status=503, text=text)
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        given = shown.strip().encode(errors="surrogateescape")
        if scheme == "Bearer" and hmac.compare_digest(given, self._token):
            return None
        headers = {"WWW-Authenticate": "Bearer"}
        return web.Response(status=401, text="show the metrics' token\n", headers=headers)

    async def alive(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(self, _: web.Request) -> web.Response:
        if missing := self._missing():
            return web.Response(status=503, text=f"waiting for {', '.join(missing)}\n")
        return web.Response(text="ok\n")


def _read_token(file: Path) -> bytes:
    """Return the token; nothing where it cannot be read, so that nobody is let in."""
    try:
        return file.read_bytes().strip()
    except OSError as error:
        logger.error("METRICS_TOKEN_FILE: %s; mount the Secret that has the token", error)
        return b""
