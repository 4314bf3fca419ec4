"""Giving archives to other agents: HTTPS, ranges, and only to a node that is to fetch them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from tryitnow.agent.transfer.audit import REVISION_HEADER, log_archive
from tryitnow.agent.transfer.certificate import Certificates
from tryitnow.agent.transfer.identify import Identities, TooManyTokensError
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint, node_checkpoint_name
from tryitnow.background import in_thread
from tryitnow.kubernetes.client import KubernetesApi, TokenIdentity
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError
from tryitnow.kubernetes.objects import UnreadableObjectError
from tryitnow.listening import Limits, Listener
from tryitnow.settings import AgentSettings, transfer_url

LIMITS = Limits(connections=64, per_address=8)
"""An agent fetches a few archives at once, and is one address."""

_CHUNK_BYTES = 1 << 20


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
        self._identities = Identities(kubernetes, settings.agent_user)
        self._listener: Listener | None = None

    @property
    def url(self) -> str:
        """Where other agents reach it."""
        return transfer_url(self._settings.node_address, self._settings.transfer_port)

    async def start(self, certificates: Certificates) -> None:
        """Listen, until ``stop``."""
        app = web.Application()
        app.router.add_get("/archives/{sha256:[0-9a-f]{64}}", self._archive, allow_head=False)
        self._listener = Listener(app, LIMITS, tls=lambda: certificates.context)
        await self._listener.start(self._settings.node_address, self._settings.transfer_port)

    async def stop(self) -> None:
        """Listen no more; fine when it does not."""
        if self._listener is not None:
            await self._listener.stop()
            self._listener = None

    async def _archive(self, request: web.Request) -> web.StreamResponse:
        sha256, remote = request.match_info["sha256"], request.remote or ""
        identity, is_news = await self._identify(request)
        if identity is None or identity.username != self._settings.agent_user:
            who = identity.username if identity is not None else ""
            why = "the token is not that of a try-it-now agent"
            if is_news:  # the same again is no line more
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
        return await _give(request, held.path)

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

    async def _identify(self, request: web.Request) -> tuple[TokenIdentity | None, bool]:
        """Return whom a request comes from, and whether that was not known before."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            return await self._identities.of(
                token if scheme == "Bearer" else "", request.remote or ""
            )
        except TooManyTokensError as error:
            headers = {"Retry-After": "5"}
            raise web.HTTPTooManyRequests(text=f"{error}\n", headers=headers) from error
        except KubernetesError as error:
            raise web.HTTPServiceUnavailable(text=f"cannot review the token: {error}\n") from error


async def _give(request: web.Request, path: Path) -> web.StreamResponse:
    """Give a file, or the rest of it where the request says from where.

    Not aiohttp's FileResponse: over TLS asyncio sends that in pieces of 16 KiB, and past the limits
    for who does not read.
    """
    size = path.stat().st_size
    headers = {"Content-Type": "application/octet-stream"}
    first = 0
    if "Range" in request.headers:
        first = _first_byte(request)
        if not 0 <= first < size:
            raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {first}-{size - 1}/{size}"
    headers["Content-Length"] = str(size - first)
    answer = web.StreamResponse(status=206 if "Range" in request.headers else 200, headers=headers)
    await answer.prepare(request)
    with path.open("rb") as file:
        file.seek(first)
        while chunk := await in_thread(file.read, _CHUNK_BYTES):
            await answer.write(chunk)
    await answer.write_eof()
    return answer


def _first_byte(request: web.Request) -> int:
    """Return where the answer is to begin, as an agent asks for it; -1 where it asks otherwise."""
    try:
        wanted = request.http_range
    except ValueError:
        return -1
    return wanted.start if wanted.start is not None and wanted.stop is None else -1
