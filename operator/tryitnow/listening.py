"""An HTTP server that strangers may reach: each connection has one request, a time and a share.

aiohttp alone waits an hour for the headers of a request, and for ever for who does not read its
answer. Here a connection must show its request within seconds and read on, there is a limit on
connections for each address and for all, and where all are taken the one that has waited longest
without a request makes way.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler


@dataclass(frozen=True)
class Limits:
    """What strangers may take.

    Attributes:
        connections: Most at once.
        per_address: Most at once from one address; from one /64 of IPv6, as one host has.
        request_seconds: For TLS, and again for the line and the headers of a request.
        stall_seconds: For reading what was written last, at most a MiB.

    """

    connections: int = 64
    per_address: int = 8
    request_seconds: float = 10.0
    stall_seconds: float = 30.0


_LINE_BYTES = 4096
_HEADER_BYTES = 16 << 10
"""A token bound to a Pod has about a KiB, one of an identity provider several."""

_MOST_HEADERS = 64
_MOST_EARLY_BYTES = 64 << 10
"""Of a request that comes with the end of the TLS handshake: one record and more."""

TLS = Callable[[], ssl.SSLContext]
"""Gives the context for the next connection."""


class Listener:
    """Serves an application at one address and port."""

    def __init__(
        self, app: web.Application, limits: Limits | None = None, tls: TLS | None = None
    ) -> None:
        """Make one; ``app`` must not be started yet."""
        self.limits = limits or Limits()
        self._tls = tls
        self._guests: dict[_Guest, None] = {}
        self._handlers: dict[asyncio.Protocol, _Guest] = {}
        self._by_address: Counter[str] = Counter()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        app.middlewares.insert(0, self._note_request)
        app.on_response_prepare.append(_close_afterwards)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            lingering_time=0,
            max_line_size=_LINE_BYTES,
            max_field_size=_HEADER_BYTES,
            max_headers=_MOST_HEADERS,
        )

    async def start(self, host: str | None, port: int) -> None:
        """Listen, until ``stop``.

        Raises:
            OSError: the port cannot be listened on.

        """
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Guest(self), host, port, reuse_address=True
        )

    async def stop(self) -> None:
        """Listen no more; fine when it does not."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._handshakes:
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)
        for guest in list(self._guests):
            if guest.waits:
                guest.end()
        await self._runner.cleanup()
        for guest in list(self._guests):
            guest.end()

    def accept(self, guest: _Guest) -> bool:
        """Give a connection its place, or say that there is none."""
        if self._by_address[guest.address] >= self.limits.per_address:
            return False
        if len(self._guests) >= self.limits.connections:
            longest = next((g for g in self._guests if g.waits), None)
            if longest is None:
                return False
            longest.end()
        self._guests[guest] = None
        self._by_address[guest.address] += 1
        return True

    def leave(self, guest: _Guest) -> None:
        """Take the place back; fine when it has none."""
        if guest not in self._guests:
            return
        del self._guests[guest]
        if guest.handler is not None:
            self._handlers.pop(guest.handler, None)
        self._by_address[guest.address] -= 1
        if not self._by_address[guest.address]:
            del self._by_address[guest.address]

    def enter(self, guest: _Guest, transport: asyncio.Transport) -> None:
        """Let a connection that was accepted in: by TLS first, where there is TLS."""
        if self._tls is None:
            guest.open(transport)
            return
        transport.pause_reading()
        task = asyncio.create_task(self._handshake(guest, transport, self._tls()))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    def new_handler(self, guest: _Guest) -> asyncio.Protocol:
        """Make what reads the requests of a connection."""
        server = self._runner.server
        assert server is not None, "start() set it up"
        handler = cast(asyncio.Protocol, server())
        self._handlers[handler] = guest
        return handler

    async def _handshake(
        self, guest: _Guest, transport: asyncio.Transport, context: ssl.SSLContext
    ) -> None:
        seconds = self.limits.request_seconds
        opened = None
        # Why it failed is the other side's matter: a stranger's noise is no line of our log.
        with contextlib.suppress(OSError):
            opened = await asyncio.get_running_loop().start_tls(
                transport,
                guest,
                context,
                server_side=True,
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=seconds,
            )
        if opened is None or transport.is_closing():
            transport.abort()
            self.leave(guest)
        else:
            guest.open(opened)

    @web.middleware
    async def _note_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        guest = self._handlers.get(request.protocol)
        if guest is not None:
            guest.has_asked()
        return await handler(request)


async def _close_afterwards(_: web.Request, response: web.StreamResponse) -> None:
    response.force_close()


class _Guest(asyncio.Protocol):
    """One connection: what aiohttp reads and writes goes through here."""

    def __init__(self, listener: Listener) -> None:
        self.address = ""
        self.waits = True
        """Whether it has shown no request yet."""

        self.handler: asyncio.Protocol | None = None
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._early = b""
        self._told_to_pause = False
        self._request_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.address = _host_of(transport)
        if self._listener.accept(self):
            self._listener.enter(self, self._transport)
        else:
            self._transport.abort()

    def open(self, transport: asyncio.Transport) -> None:
        """Begin to read requests."""
        self._transport = transport
        self._request_timer = self._end_in(self._listener.limits.request_seconds)
        self.handler = self._listener.new_handler(self)
        self.handler.connection_made(transport)
        # Whatever is not read at once counts as a stall. One byte: with none, asyncio's TLS would
        # take an empty buffer for a full one.
        transport.set_write_buffer_limits(high=1)
        if self._early:
            early, self._early = self._early, b""
            self.handler.data_received(early)

    def has_asked(self) -> None:
        """Note that its request is here."""
        self.waits = False
        _cancel(self._request_timer)

    def end(self) -> None:
        """End it now."""
        self._cancel_timers()
        if self._transport is not None:
            self._transport.abort()
        self._listener.leave(self)

    def data_received(self, data: bytes) -> None:
        if self.handler is not None:
            self.handler.data_received(data)
        else:
            # TLS gives what came with its last message before it says that it is done.
            self._early += data
            if len(self._early) > _MOST_EARLY_BYTES:
                self.end()

    def eof_received(self) -> bool | None:
        return self.handler.eof_received() if self.handler is not None else None

    def pause_writing(self) -> None:
        _cancel(self._stall_timer)
        self._stall_timer = self._end_in(self._listener.limits.stall_seconds)
        if self.handler is not None:
            self._told_to_pause = True
            self.handler.pause_writing()

    def resume_writing(self) -> None:
        _cancel(self._stall_timer)
        if self.handler is not None and self._told_to_pause:
            self._told_to_pause = False
            self.handler.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._cancel_timers()
        handler = self.handler
        self._listener.leave(self)
        if handler is not None:
            handler.connection_lost(error)

    def _end_in(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self.end)

    def _cancel_timers(self) -> None:
        _cancel(self._request_timer)
        _cancel(self._stall_timer)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _host_of(transport: asyncio.BaseTransport) -> str:
    """Return what counts as one host."""
    peer = transport.get_extra_info("peername")
    if not peer:
        return ""  # it has gone already
    address = ipaddress.ip_address(peer[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
