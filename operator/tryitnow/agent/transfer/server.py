"""Giving archives to other agents: HTTPS, ranges, and nobody else's tokens."""

from __future__ import annotations

import logging
import time

from aiohttp import web

from tryitnow.agent.certificate import ServerCertificate
from tryitnow.agent.node import Node
from tryitnow.agent.restore import archive_name
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.settings import TRANSFER_AUDIENCE, host_and_port

logger = logging.getLogger(__name__)

REVIEW_KEPT_SECONDS = 60.0
"""How long a good TokenReview is believed: the API server is asked once per download, not once
per range. A token that was revoked meanwhile works for this long at most."""


class TransferServer:
    """Serves ``GET /archives/<sha256>`` to holders of an agent's token."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._reviewed: dict[str, float] = {}

    @property
    def url(self) -> str:
        """Where other agents reach it."""
        settings = self._node.settings
        return f"https://{host_and_port(settings.node_address, settings.transfer_port)}/archives"

    async def start(self, certificate: ServerCertificate) -> web.AppRunner:
        """Listen; the caller cleans the runner up."""
        app = web.Application()
        app.router.add_get("/archives/{sha256:[0-9a-f]{64}}", self._archive)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(
            runner,
            self._node.settings.node_address,
            self._node.settings.transfer_port,
            ssl_context=certificate.context,
            reuse_address=True,
        )
        await site.start()
        return runner

    async def _archive(self, request: web.Request) -> web.StreamResponse:
        if not await self._is_agent(request):
            raise web.HTTPUnauthorized(text="the token is not that of a try-it-now agent\n")
        sha256 = request.match_info["sha256"]
        for copy in self._node.copies:
            archive = copy.status.archive
            if copy.is_prepared and archive is not None and archive.sha256 == sha256:
                path = self._node.archives.path(archive_name(copy))
                if path.exists():
                    return web.FileResponse(path, chunk_size=1 << 20)
        raise web.HTTPNotFound(text=f"{self._node.name} holds no good archive {sha256}\n")

    async def _is_agent(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return False
        now = time.monotonic()
        self._reviewed = {t: until for t, until in self._reviewed.items() if until > now}
        if token in self._reviewed:
            return True
        try:
            identity = await self._node.kubernetes.review_token(token, TRANSFER_AUDIENCE)
        except KubernetesError as error:
            raise web.HTTPServiceUnavailable(text=f"cannot review the token: {error}\n") from error
        if identity is None or identity.username != self._node.settings.agent_user:
            who = identity.username if identity else "nobody known"
            logger.warning(
                "refused %s from %s: its token is of %s", request.path, request.remote, who
            )
            return False
        self._reviewed[token] = now + REVIEW_KEPT_SECONDS
        return True
