"""Asking an application whether it is ready, at once and then again and again, until a deadline."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp

from tryitnow.api.checkpoint import Readiness
from tryitnow.settings import host_and_port

FIRST_PAUSE = 0.005
LAST_PAUSE = 0.5
"""Seconds between two requests: from less than a thaw's jitter to what a cold start of minutes
does not notice; grown by half each time."""

REQUEST_TIMEOUT = 10.0
"""Seconds for one answer: a cold page of a shop may take some, a hanging one is asked again."""

ALIVE_EVERY = 1.0
"""Seconds between two looks at whether the container still runs."""

_BODY_LIMIT = 4 << 20


class NotReadyError(Exception):
    """The application did not become ready in its deadline; the message says what it answered."""


class ContainerDiedError(NotReadyError):
    """The container ended while it was being asked."""


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
        return f"http://{self.host}"

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
    socket_factory: Callable[[Any], socket.socket] | None = None,
) -> aiohttp.ClientSession:
    """Make a session for probes: no pooling across containers, no cookies from one to the next."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, socket_factory=socket_factory),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT),
    )


async def ask(session: aiohttp.ClientSession, target: Target) -> str | None:
    """Ask once; return None when ready, else what was wrong."""
    expected = target.readiness
    try:
        async with session.get(target.url, headers=target.headers, allow_redirects=False) as answer:
            if answer.status != expected.expected_status:
                return f"{target.url} answered {answer.status}, not {expected.expected_status}"
            if expected.expected_body:
                body = await answer.content.read(_BODY_LIMIT)
                while len(body) < _BODY_LIMIT and (more := await answer.content.read(_BODY_LIMIT)):
                    body += more
                if expected.expected_body.encode() not in body:
                    return f"{target.url} answered without the text {expected.expected_body!r}"
            return None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return f"{target.url} does not answer: {type(error).__name__} {error}".strip()


async def wait_ready(
    session: aiohttp.ClientSession,
    target: Target,
    deadline: timedelta,
    alive: Callable[[], Awaitable[bool]],
) -> timedelta:
    """Wait until the application is ready; return how long it took.

    Raises:
        NotReadyError: it was not ready in time.
        ContainerDiedError: its container ended before that.

    """
    return await wait_until(lambda: ask(session, target), deadline, alive)


async def wait_until(
    look: Callable[[], Awaitable[str | None]],
    deadline: timedelta,
    alive: Callable[[], Awaitable[bool]],
) -> timedelta:
    """Look at once and then again and again, until a look finds nothing wrong.

    Raises:
        NotReadyError: something was wrong until the deadline.
        ContainerDiedError: the container ended before that.

    """
    began = time.monotonic()
    pause = FIRST_PAUSE
    looked = began
    answer: str | None = "it was never asked"
    while True:
        left = deadline.total_seconds() - (time.monotonic() - began)
        if left <= 0:
            msg = f"not ready after {deadline.total_seconds():g} s; the last answer: {answer}"
            raise NotReadyError(msg)
        try:
            async with asyncio.timeout(left):
                answer = await look()
        except TimeoutError:
            continue
        if answer is None:
            return timedelta(seconds=time.monotonic() - began)
        if time.monotonic() - looked >= ALIVE_EVERY:
            looked = time.monotonic()
            if not await alive():
                msg = f"the container ended before it was ready; the last answer: {answer}"
                raise ContainerDiedError(msg)
        await asyncio.sleep(min(pause, max(left, 0)))
        pause = min(pause * 1.5, LAST_PAUSE)
