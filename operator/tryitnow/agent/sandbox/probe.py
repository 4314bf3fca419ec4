"""Asking an application whether it is ready: as clients do, or from inside its sandbox."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp

from tryitnow.agent.errors import ContainerDiedError, NotReadyError
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.namespaces import socket_factory
from tryitnow.api.definition import Definition, Readiness
from tryitnow.api.template import Scheme
from tryitnow.settings import AgentSettings, host_and_port

LOOPBACK = "127.0.0.1"

FIRST_PAUSE = 0.005
LAST_PAUSE = 0.5
"""Seconds between two requests: from less than a restore's jitter to what a cold start of minutes
does not notice; grown by half each time."""

REQUEST_TIMEOUT = 10.0
"""Seconds for one answer: a cold page of a shop may take some, a hanging one is asked again."""

ALIVE_EVERY = 1.0
"""Seconds between two looks at whether the containers still run."""

_BODY_LIMIT = 4 << 20


@dataclass(frozen=True)
class Target:
    """Where and what to ask."""

    address: str
    port: int
    readiness: Readiness
    asked_as: str | None = None
    """Host and port that the application believes to be asked by, where they are others."""

    @property
    def host(self) -> str:
        """Host and port, as they stand in a URL."""
        return host_and_port(self.address, self.port)

    @property
    def base_url(self) -> str:
        """The URL of the application, to which a path is added."""
        return f"{self.readiness.http_get.scheme.lower()}://{self.host}"

    @property
    def url(self) -> str:
        """The URL that is asked."""
        return self.base_url + self.readiness.http_get.path

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the request."""
        host = self.readiness.http_get.host or self.asked_as
        return {"Host": host} if host else {}


def open_session(
    factory: Callable[[Any], socket.socket] | None = None,
) -> aiohttp.ClientSession:
    """Make a session for probes: no pooling across sandboxes, no cookies from one to the next."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            force_close=True, socket_factory=factory, ssl=_any_certificate()
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT),
    )


def _any_certificate() -> ssl.SSLContext:
    """Accept any certificate, as the kubelet's probes do: they ask whether it answers, not who."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True)
class Prober:
    """Asks the applications of this node's sandboxes."""

    settings: AgentSettings
    http: aiohttp.ClientSession

    def published(self, definition: Definition, sandbox: Sandbox) -> Target:
        """Return where clients ask: at the published port, and by the name that is in the URL."""
        port = sandbox.host_port(definition.probe_port)
        asked_as = self.settings.host_at(port)
        return Target(self.settings.node_address, port, definition.readiness, asked_as)

    @asynccontextmanager
    async def inside(
        self, definition: Definition, sandbox: Sandbox
    ) -> AsyncIterator[tuple[aiohttp.ClientSession, Target]]:
        """Give what asks an application, and where, whatever its firewall is like.

        The request is the same as any client's: the same Host header.
        """
        outside = self.published(definition, sandbox)
        target = Target(LOOPBACK, definition.probe_port, definition.readiness, outside.asked_as)
        async with self.session_inside(sandbox) as session:
            yield session, target

    @asynccontextmanager
    async def session_inside(self, sandbox: Sandbox) -> AsyncIterator[aiohttp.ClientSession]:
        """Give a session whose sockets are in the network namespace of a sandbox."""
        async with open_session(socket_factory(sandbox.pid)) as session:
            yield session

    async def ask_published(self, definition: Definition, sandbox: Sandbox) -> str | None:
        """Ask once as clients do; return None when ready, else what was wrong."""
        return await ask(self.http, self.published(definition, sandbox))

    async def ask_inside(self, definition: Definition, sandbox: Sandbox) -> str | None:
        """Ask once from inside the sandbox; return None when ready, else what was wrong."""
        async with self.inside(definition, sandbox) as (session, target):
            return await ask(session, target)

    async def wait_published(
        self,
        definition: Definition,
        sandbox: Sandbox,
        deadline: timedelta,
        alive: Callable[[], Awaitable[bool]],
    ) -> timedelta:
        """Wait until clients are answered; return how long it took.

        Raises:
            NotReadyError: they were not in time.
            ContainerDiedError: a container ended before that.

        """
        target = self.published(definition, sandbox)
        return await wait_until(lambda: ask(self.http, target), deadline, alive)

    async def wait_inside(
        self,
        definition: Definition,
        sandbox: Sandbox,
        deadline: timedelta,
        alive: Callable[[], Awaitable[bool]],
    ) -> timedelta:
        """Wait until the application answers inside its sandbox; return how long it took.

        Raises:
            NotReadyError: it did not in time.
            ContainerDiedError: a container ended before that.

        """
        async with self.inside(definition, sandbox) as (session, target):
            return await wait_until(lambda: ask(session, target), deadline, alive)


async def ask(
    session: aiohttp.ClientSession,
    target: Target,
    timeout: aiohttp.ClientTimeout | None = None,
) -> str | None:
    """Ask once; return None when ready, else what was wrong."""
    expected = target.readiness
    try:
        async with session.get(
            target.url,
            headers=target.headers,
            allow_redirects=False,
            timeout=timeout or aiohttp.ClientTimeout(total=REQUEST_TIMEOUT),
        ) as answer:
            if answer.status != expected.expected_status:
                return _unexpected(target, answer)
            if expected.expected_body:
                body = await answer.content.read(_BODY_LIMIT)
                while len(body) < _BODY_LIMIT and (more := await answer.content.read(_BODY_LIMIT)):
                    body += more
                if expected.expected_body.encode() not in body:
                    return f"{target.url} answered without the text {expected.expected_body!r}"
            return None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return f"{target.url} does not answer: {type(error).__name__} {error}".strip()


def _unexpected(target: Target, answer: aiohttp.ClientResponse) -> str:
    expected = target.readiness
    text = f"{target.url} answered {answer.status}, not {expected.expected_status}"
    location = answer.headers.get("Location", "")
    if location.startswith("https://") and expected.http_get.scheme is Scheme.HTTP:
        text += f", and leads to {location[:200]}: set readiness.httpGet.scheme to HTTPS"
    return text


async def wait_until(
    probe_once: Callable[[], Awaitable[str | None]],
    deadline: timedelta,
    alive: Callable[[], Awaitable[bool]],
) -> timedelta:
    """Look at once and then again and again, until a look finds nothing wrong.

    Raises:
        NotReadyError: something was wrong until the deadline.
        ContainerDiedError: a container ended before that.

    """
    clock = asyncio.get_running_loop().time
    began = clock()
    pause = FIRST_PAUSE
    looked = began
    answer: str | None = "it was never asked"
    while True:
        left = deadline.total_seconds() - (clock() - began)
        if left <= 0:
            msg = f"not ready after {deadline.total_seconds():g} s; the last answer: {answer}"
            raise NotReadyError(msg)
        try:
            async with asyncio.timeout(left):
                answer = await probe_once()
        except TimeoutError:
            continue
        if answer is None:
            return timedelta(seconds=clock() - began)
        if clock() - looked >= ALIVE_EVERY:
            looked = clock()
            if not await alive():
                msg = f"a container ended before it was ready; the last answer: {answer}"
                raise ContainerDiedError(msg)
        await asyncio.sleep(min(pause, max(left, 0)))
        pause = min(pause * 1.5, LAST_PAUSE)
