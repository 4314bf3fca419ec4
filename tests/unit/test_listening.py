"""What strangers may take of a server: connections, time, and what is written to them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from tests.unit.conftest import ADDRESS
from tryitnow.agent.transfer.certificate import make_certificate, trust_only
from tryitnow.listening import Limits, Listener

PORT = 23091
LARGE = bytes(32 << 20)
QUICK = Limits(connections=4, per_address=3, request_seconds=0.3, stall_seconds=0.3)
CERTIFICATE = make_certificate(ADDRESS)
WAYS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def served(limits: Limits, *, tls: bool = False) -> AsyncIterator[list[str]]:
    """Serve; give what was asked for."""
    asked = []

    async def small(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="ok")

    async def large(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=LARGE)

    async def pieces(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(32):
            await answer.write(LARGE[: 1 << 20])
        return answer

    app = web.Application()
    app.router.add_get("/", small)
    app.router.add_get("/pieces", pieces)
    app.router.add_get("/large", large)
    listener = Listener(app, limits, tls=(lambda: CERTIFICATE.context) if tls else None)
    await listener.start(ADDRESS, PORT)
    try:
        yield asked
    finally:
        async with asyncio.timeout(5):
            await listener.stop()


@asynccontextmanager
async def connected(source: str = "127.0.0.1", *, tls: bool = False) -> AsyncIterator[Connection]:
    context = trust_only(CERTIFICATE.pem) if tls else None
    reader, writer = await asyncio.open_connection(
        ADDRESS, PORT, local_addr=(source, 0), ssl=context, limit=1 << 16
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait until the other side ends it."""
    async with asyncio.timeout(3):
        try:
            assert await reader.read() == b""
        except (ConnectionError, ssl.SSLError):
            return


async def get(path: str = "/", *, tls: bool = False, source: str = "127.0.0.1") -> bytes:
    async with connected(source, tls=tls) as (reader, writer), asyncio.timeout(5):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return await reader.read()


@WAYS
async def test_each_request_is_answered_and_ends_its_connection(tls: bool) -> None:  # noqa: FBT001
    async with served(Limits(), tls=tls):
        for _ in range(10):
            answer = await get(tls=tls)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert answer.endswith(b"ok")
        assert len(await get("/large", tls=tls)) > len(LARGE)
        assert len(await get("/pieces", tls=tls)) > len(LARGE)


@WAYS
async def test_who_asks_nothing_is_ended(tls: bool) -> None:  # noqa: FBT001
    async with served(QUICK, tls=tls), connected(tls=tls) as (reader, _):
        await ended(reader)


async def test_who_begins_no_tls_is_ended() -> None:
    async with served(QUICK, tls=True), connected() as (reader, _):
        await ended(reader)


async def test_noise_instead_of_tls_is_ended() -> None:
    async with served(QUICK, tls=True), connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(3):
            await reader.read()


@WAYS
async def test_headers_that_drip_are_ended(tls: bool) -> None:  # noqa: FBT001
    async with served(QUICK, tls=tls) as asked, connected(tls=tls) as (reader, writer):
        drip = asyncio.create_task(drip_headers(writer))
        await ended(reader)
        drip.cancel()
        assert asked == []


async def drip_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET / HTTP/1.1\r\n")
    while True:
        writer.write(b"X: y\r\n")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 1000 + b"\r\n",
    ],
    ids=["line", "header", "headers"],
)
async def test_too_much_before_the_body_is_refused(request_: bytes) -> None:
    async with served(QUICK) as asked, connected() as (reader, writer), asyncio.timeout(3):
        writer.write(request_)
        assert (await reader.read()).startswith(b"HTTP/1.0 400")
        assert asked == []


async def test_a_body_is_not_waited_for() -> None:
    async with served(QUICK), connected() as (reader, writer), asyncio.timeout(3):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert (await reader.read()).endswith(b"ok")


@WAYS
async def test_who_does_not_read_the_answer_is_ended(tls: bool) -> None:  # noqa: FBT001
    async with served(QUICK, tls=tls), connected(tls=tls) as (reader, writer):
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(1)  # what is in the kernel's buffers still comes
        got = 0
        async with asyncio.timeout(3):
            try:
                while data := await reader.read(1 << 20):
                    got += len(data)
            except (ConnectionError, ssl.SSLError):
                pass
        assert got < len(LARGE)


async def test_one_address_has_its_share() -> None:
    async with served(QUICK), connected(), connected(), connected():
        async with connected() as (reader, _):
            await ended(reader)
        assert (await get(source="127.0.0.2")).endswith(b"ok")


async def test_a_place_is_given_back() -> None:
    async with served(QUICK):
        for _ in range(3):
            async with connected(), connected(), connected():
                pass
            await asyncio.sleep(0.05)
        assert (await get()).endswith(b"ok")


async def test_where_all_places_are_taken_who_waits_longest_makes_way() -> None:
    limits = Limits(connections=2, per_address=2, request_seconds=60)
    async with (
        served(limits),
        connected() as (first, _),
        connected() as (second, _),
    ):
        assert (await get(source="127.0.0.2")).endswith(b"ok")
        await ended(first)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await second.read()


async def test_nobody_who_is_served_makes_way() -> None:
    limits = Limits(connections=1, stall_seconds=60)
    async with served(limits), connected() as (_, writer):
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.1)
        async with connected("127.0.0.2") as (reader, _):
            await ended(reader)


async def test_a_usual_client_notices_nothing() -> None:
    async with served(Limits(), tls=True), aiohttp.ClientSession() as session:
        for _ in range(5):
            url, trust = f"https://{ADDRESS}:{PORT}/large", trust_only(CERTIFICATE.pem)
            async with session.get(url, ssl=trust) as answer:
                assert len(await answer.read()) == len(LARGE)
