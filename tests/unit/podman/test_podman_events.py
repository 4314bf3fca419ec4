"""What Podman tells by itself."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from aiohttp import web

from tests.unit.podman.libpod import FakeLibpod
from tryitnow.podman.client import ContainerEvent, EventAction, Podman
from tryitnow.podman.errors import PodmanBusyError, PodmanError, PodmanUnreachableError

NAME = "tryitnow_demo_default_anna_12345678"
PREFIX = "tryitnow_"
POD = "4d2" * 21 + "0"
INFRA = f"{POD[:12]}-infra"


def text(name: str, action: str, **attributes: str) -> bytes:
    """A line as Podman 5.8 writes it."""
    line: dict[str, Any] = {
        "status": action,
        "id": "c0ffee",
        "from": "reg.example/shop:1",
        "Type": "container",
        "Action": action,
        "Actor": {"ID": "c0ffee", "Attributes": {"image": "i", "name": name} | attributes},
        "scope": "local",
        "time": 1,
        "timeNano": 1_000_000_000,
    }
    return json.dumps(line).encode() + b"\n"


class Telling:
    """A service that tells what it is given, until it is to stop."""

    def __init__(self, libpod: FakeLibpod) -> None:
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.connections = 0
        libpod.on("GET", "/events", self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        self.connections += 1
        try:
            while (line := await self.lines.get()) is not None:
                await response.write(line)
        finally:
            self.connections -= 1
        return response


async def test_what_ends_is_reported_at_once(libpod: FakeLibpod, podman: Podman) -> None:
    telling = Telling(libpod)
    async with podman.events(PREFIX) as events:
        telling.lines.put_nowait(text("somebody_else", "died", containerExitCode="0"))
        telling.lines.put_nowait(text(NAME, "died", containerExitCode="137", podId=""))
        telling.lines.put_nowait(text(NAME, "remove", podId=POD))
        telling.lines.put_nowait(text(INFRA, "died", containerExitCode="0", podId=""))
        telling.lines.put_nowait(text(INFRA, "remove", podId=POD))
        async with asyncio.timeout(5):
            found = [await anext(events) for _ in range(4)]
    assert found == [
        ContainerEvent(NAME, "c0ffee", EventAction.DIED, exit_code=137),
        ContainerEvent(NAME, "c0ffee", EventAction.REMOVED, POD),
        ContainerEvent(INFRA, "c0ffee", EventAction.DIED, POD[:12], exit_code=0, is_infra=True),
        ContainerEvent(INFRA, "c0ffee", EventAction.REMOVED, POD, is_infra=True),
    ]
    [asked] = libpod.asked
    assert json.loads(asked.query["filters"]) == {
        "type": ["container"],
        "event": ["died", "remove"],
    }


async def test_a_label_of_an_image_is_no_exit_code(libpod: FakeLibpod, podman: Podman) -> None:
    """Podman puts labels beside its own words: one could end the events of the whole node."""
    telling = Telling(libpod)
    async with podman.events(PREFIX, list(EventAction)) as events:
        telling.lines.put_nowait(text(NAME, "start", containerExitCode="never", podId=POD))
        telling.lines.put_nowait(text(NAME, "remove", containerExitCode="never", podId=POD))
        telling.lines.put_nowait(text(NAME, "died", containerExitCode="3"))
        async with asyncio.timeout(5):
            found = [await anext(events) for _ in range(3)]
    assert [event.exit_code for event in found] == [None, None, 3]


async def test_from_the_beginning_of_the_block_nothing_is_missed(
    libpod: FakeLibpod, podman: Podman
) -> None:
    telling = Telling(libpod)
    async with podman.events(PREFIX):
        assert telling.connections == 1


async def test_who_stops_following_hangs_up(libpod: FakeLibpod, podman: Podman) -> None:
    telling = Telling(libpod)
    following = asyncio.Event()

    async def follow() -> None:
        async with podman.events(PREFIX) as events:
            following.set()
            async for _ in events:
                pass

    task = asyncio.create_task(follow())
    await following.wait()
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 0.1
    async with asyncio.timeout(1):
        while telling.connections:  # noqa: ASYNC110 - aiohttp tells nobody
            await asyncio.sleep(0.001)


async def test_a_service_that_breaks_off_ends_the_following_with_an_error(
    libpod: FakeLibpod, podman: Podman
) -> None:
    """Or whoever follows believed that nothing ends any more."""
    telling = Telling(libpod)
    async with podman.events(PREFIX) as events:
        telling.lines.put_nowait(text(NAME, "died", containerExitCode="1"))
        telling.lines.put_nowait(None)
        assert (await anext(events)).exit_code == 1
        for _ in range(2):
            with pytest.raises(PodmanUnreachableError):
                await anext(events)


async def test_without_events_it_says_so_at_once(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_error("GET", "/events", 'cannot read events with the "none" backend')
    with pytest.raises(PodmanError, match="none"):
        async with podman.events(PREFIX):
            pytest.fail("the block is entered")


async def test_a_service_that_does_not_begin_is_busy(
    libpod: FakeLibpod, podman: Podman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tryitnow.podman.events.CALL_SECONDS", 0.05)

    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    libpod.on("GET", "/events", hang)
    with pytest.raises(PodmanBusyError):
        async with podman.events(PREFIX):
            pytest.fail("the block is entered")


async def test_an_error_in_the_block_is_its_own(libpod: FakeLibpod, podman: Podman) -> None:
    Telling(libpod)
    with pytest.raises(TimeoutError, match="of the block"):
        async with podman.events(PREFIX):
            raise TimeoutError("of the block")
