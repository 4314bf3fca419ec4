"""Giving archives to other agents: HTTPS, ranges, and only to a node that is to fetch them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from tryitnow.agent.transfer.audit import REVISION_HEADER, log_archive
from tryitnow.agent.transfer.certificate import ServerCertificate
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint, node_checkpoint_name
from tryitnow.kubernetes.client import KubernetesApi, TokenIdentity
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError
from tryitnow.kubernetes.objects import UnreadableObjectError
from tryitnow.settings import TRANSFER_AUDIENCE, AgentSettings, transfer_url

REVIEW_KEPT_SECONDS = 60.0
"""How long a good TokenReview is believed: the API server is asked once per download, not once
per range. A token that was revoked meanwhile works for this long at most."""


@dataclass(frozen=True)
class Held:
    """A whole archive that this node has."""

    path: Path
    resource: NodeCheckpoint
    """The NodeCheckpoint that it is kept for."""


FindArchive = Callable[[str], Held | None]
"""Returns the whole archive with that SHA-256, where this node has it."""


class TransferServer:
    """Serves ``GET /archives/<sha256>`` to the agents whose NodeCheckpoint orders it."""

    def __init__(
        self, settings: AgentSettings, kubernetes: KubernetesApi, find_archive: FindArchive
    ) -> None:
        self._settings = settings
        self._kubernetes = kubernetes
        self._find_archive = find_archive
        self._reviewed: dict[str, tuple[TokenIdentity, float]] = {}
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where other agents reach it."""
        return transfer_url(self._settings.node_address, self._settings.transfer_port)

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
        sha256, remote = request.match_info["sha256"], request.remote or ""
        identity = await self._identify(request)
        if identity is None or identity.username != self._settings.agent_user:
            who = identity.username if identity is not None else ""
            why = "the token is not that of a try-it-now agent"
            log_archive("refused", sha256=sha256, remote=remote, user=who, why=why)
            raise web.HTTPUnauthorized(text=f"{why}\n")
        held = self._find_archive(sha256)
        if held is None or not held.path.exists():
            text = f"{self._settings.node_name} has no good archive {sha256}\n"
            raise web.HTTPNotFound(text=text)
        facts = {
            "sha256": sha256,
            "remote": remote,
            "node": identity.node,
            "namespace": held.resource.metadata.namespace,
            "checkpoint": held.resource.spec.checkpoint,
            "revision": held.resource.spec.revision,
        }
        if request.headers.get(REVISION_HEADER) != held.resource.spec.revision:
            why = "it is of another revision than the one that it is asked for"
        else:
            why = await self._why_not(identity, held, sha256)
        if why:
            log_archive("refused", **facts, why=why)
            raise web.HTTPForbidden(text=f"{why}\n")
        log_archive("given", **facts)
        return web.FileResponse(held.path, chunk_size=1 << 20)

    async def _why_not(self, identity: TokenIdentity, held: Held, sha256: str) -> str:
        """Say why a node may not have an archive; empty where the controller ordered it there."""
        if not identity.node:
            return "the token names no node; use one that is bound to a Pod or a Node"
        spec = held.resource.spec
        name = node_checkpoint_name(spec.checkpoint, spec.revision, identity.node)
        key = Key(held.resource.metadata.namespace, name)
        try:
            order = await self._kubernetes.get(NodeCheckpoint, key)
        except (NotFoundError, UnreadableObjectError):
            return f"node {identity.node} has no NodeCheckpoint of it"
        except KubernetesError as error:
            raise web.HTTPServiceUnavailable(text=f"cannot read the order: {error}\n") from error
        fetch = order.spec.fetch
        if order.is_deleting or order.spec.node_name != identity.node or fetch is None:
            return f"node {identity.node} is not to fetch it"
        if fetch.archive.sha256 != sha256:
            return f"node {identity.node} is to fetch another archive"
        return ""

    async def _identify(self, request: web.Request) -> TokenIdentity | None:
        """Return whom a request comes from; None where its token proves nothing."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return None
        now = time.monotonic()
        self._reviewed = {t: known for t, known in self._reviewed.items() if known[1] > now}
        if token in self._reviewed:
            return self._reviewed[token][0]
        try:
            identity = await self._kubernetes.review_token(token, TRANSFER_AUDIENCE)
        except KubernetesError as error:
            raise web.HTTPServiceUnavailable(text=f"cannot review the token: {error}\n") from error
        if identity is not None and identity.username == self._settings.agent_user:
            self._reviewed[token] = identity, now + REVIEW_KEPT_SECONDS
        return identity
