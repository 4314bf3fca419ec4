"""A libpod to ask: a real HTTP server on a real unix socket.

It speaks the few endpoints of libpod's API that we use: a Podman that breaks off or runs out of
disk cannot be had at will. The bodies of its answers are those of Podman 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """A request that reached the service."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes


class FakeLibpod:
    """Answers by method and path; what it was not told about, it answers 500."""

    def __init__(self, socket: Path) -> None:
        self.url = f"unix://{socket}"
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], Answer] = {}

    def on(self, method: str, path: str, answer: Answer) -> None:
        self._answers[method, path] = answer

    def answer_of(self, method: str, path: str) -> Answer:
        return self._answers[method, path]

    def on_json(self, method: str, path: str, body: object, status: int = 200) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response(body, status=status)

        self.on(method, path, answer)

    def on_error(self, method: str, path: str, message: str, status: int = 500) -> None:
        """Answer as libpod does: the innermost cause, and the whole chain."""
        body = {"cause": message.rsplit(": ", 1)[-1], "message": message, "response": status}
        self.on_json(method, path, body, status)

    def on_stream(self, method: str, path: str, *chunks: bytes, breaks: bool = False) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)
            if breaks and request.transport is not None:
                await asyncio.sleep(0.01)
                request.transport.abort()
            return response

        self.on(method, path, answer)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0].split("/libpod", 1)[1]
        try:
            body = await request.read()
        except Exception:  # noqa: BLE001 - the client broke off; how is aiohttp's affair
            body = b"(broken off)"
        self.asked.append(Asked(request.method, path, dict(request.query), body))
        answer = self._answers.get((request.method, path))
        if answer is None:
            return web.json_response({"cause": "untold", "message": f"untold: {path}"}, status=500)
        return await answer(request)


async def no_content(_: web.Request) -> web.StreamResponse:
    """Answer that it is done."""
    return web.Response(status=204)


async def not_modified(_: web.Request) -> web.StreamResponse:
    """Answer that it was so already."""
    return web.Response(status=304)
