"""Giving archives to other agents: HTTPS, ranges, and to nobody without an agent's token."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from tryitnow.agent.transfer.certificate import ServerCertificate
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.settings import TRANSFER_AUDIENCE, AgentSettings, host_and_port

logger = logging.getLogger(__name__)

REVIEW_KEPT_SECONDS = 60.0
"""How long a good TokenReview is believed: the API server is asked once per download, not once
per range. A token that was revoked meanwhile works for this long at most."""

FindArchive = Callable[[str], Path | None]
"""Returns the file of a whole archive with that SHA-256, where this node has it."""


class TransferServer:
    """Serves ``GET /archives/<sha256>`` to holders of an agent's token."""

    def __init__(
        self, settings: AgentSettings, kubernetes: KubernetesApi, find_archive: FindArchive
    ) -> None:
        self._settings = settings
        self._kubernetes = kubernetes
        self._find_archive = find_archive
        self._reviewed: dict[str, float] = {}
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where other agents reach it."""
        settings = self._settings
        return f"https://{host_and_port(settings.node_address, settings.transfer_port)}/archives"

    async def start(self, certificate: ServerCertificate) -> None:
        """Listen, until ``stop``."""
        app = web.Application()
        app.router.add_get("/archives/{sha256:[0-9a-f]{64}}", self._archive)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner,
            self._settings.node_address,
            self._settings.transfer_port,
            ssl_context=certificate.context,
            reuse_address=True,
        )
        await site.start()

    async def stop(self) -> None:
        """Listen no more; fine when it does not."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _archive(self, request: web.Request) -> web.StreamResponse:
        if not await self._is_agent(request):
            raise web.HTTPUnauthorized(text="the token is not that of a try-it-now agent\n")
        sha256 = request.match_info["sha256"]
        path = self._find_archive(sha256)
        if path is not None and path.exists():
            return web.FileResponse(path, chunk_size=1 << 20)
        raise web.HTTPNotFound(text=f"{self._settings.node_name} has no good archive {sha256}\n")

    async def _is_agent(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return False
        now = time.monotonic()
        self._reviewed = {t: until for t, until in self._reviewed.items() if until > now}
        if token in self._reviewed:
            return True
        try:
            identity = await self._kubernetes.review_token(token, TRANSFER_AUDIENCE)
        except KubernetesError as error:
            raise web.HTTPServiceUnavailable(text=f"cannot review the token: {error}\n") from error
        if identity is None or identity.username != self._settings.agent_user:
            who = identity.username if identity else "nobody known"
            logger.warning(
                "refused %s from %s: its token belongs to %s", request.path, request.remote, who
            )
            return False
        self._reviewed[token] = now + REVIEW_KEPT_SECONDS
        return True
