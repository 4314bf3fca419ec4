"""No call to Podman holds up another that has nothing to do with it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from tests.unit.podman.libpod import FakeLibpod, no_content
from tryitnow.api.definition import CRIUOptions
from tryitnow.podman.client import Podman
from tryitnow.podman.errors import PodmanBusyError, PodmanUnreachableError

NAME = "tryitnow_demo_default_anna_12345678"
OTHER = "tryitnow_demo_default_ben_87654321"
MANY = 32
SOON = 0.1
HOUR = timedelta(hours=1)


class Hanging:
    """An answer of the service that does not come before the test is over."""

    def __init__(self) -> None:
        self.asked = asyncio.Semaphore(0)
        self.go_on = asyncio.Event()
        self.under_way = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        del request
        self.under_way += 1
        self.asked.release()
        try:
            await self.go_on.wait()
        finally:
            self.under_way -= 1
        return web.json_response({}, status=500)


@pytest.fixture
async def hanging() -> AsyncIterator[Hanging]:
    answer = Hanging()
    yield answer
    answer.go_on.set()


def checkpoint(podman: Podman, number: int) -> Coroutine[Any, Any, object]:
    return podman.checkpoint(f"{NAME}{number}", CRIUOptions(), b"".join)


def roots(podman: Podman, number: int) -> Coroutine[Any, Any, object]:
    return podman.with_roots(f"{NAME}{number}", f"helper{number}", lambda *_: None)


def build(podman: Podman, number: int) -> Coroutine[Any, Any, object]:
    base = f"reg.example/shop@sha256:{number:064}"
    return podman.build_image(f"{NAME}{number}", base, "localhost/x", str(number), lambda _: None)


def execute(podman: Podman, number: int) -> Coroutine[Any, Any, object]:
    return podman.execute(f"{NAME}{number}", ["sleep"], {}, HOUR)


SLOW: dict[str, tuple[Callable[[Podman, int], Coroutine[Any, Any, object]], str]] = {
    "pull": (lambda podman, n: podman.pull(f"reg.example/shop:{n}"), "/images/pull"),
    "restore": (
        lambda podman, n: podman.restore(f"{NAME}{n}", CRIUOptions()),
        "/containers/{name}/restore",
    ),
    "checkpoint": (checkpoint, "/containers/{name}/checkpoint"),
    "exec": (execute, "/containers/{name}/exec"),
}

WHOLE: dict[str, tuple[Callable[[Podman, int], Coroutine[Any, Any, object]], str, str]] = {
    "roots": (roots, "POST", "/containers/{name}/mount"),
    "build": (build, "POST", "/containers/{name}/mount"),
}
"""Slow calls that go on to their end when they are cancelled."""


async def quick_calls_are_answered(libpod: FakeLibpod, podman: Podman) -> None:
    """Make calls that need nothing of what the slow ones hold."""
    libpod.on_json("GET", "/_ping", "OK")
    libpod.on("POST", f"/containers/{OTHER}/rename", no_content)
    began = time.monotonic()
    await podman.ping()
    await podman.rename(OTHER, "anna")
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("kind", SLOW)
async def test_many_slow_calls_hold_up_no_quick_one(
    libpod: FakeLibpod, podman: Podman, hanging: Hanging, kind: str
) -> None:
    begin, path = SLOW[kind]
    for number in range(MANY):
        libpod.on("POST", path.format(name=f"{NAME}{number}"), hanging)
    slow = [asyncio.create_task(begin(podman, number)) for number in range(MANY)]
    for _ in slow:
        await hanging.asked.acquire()
    await quick_calls_are_answered(libpod, podman)
    await cancelled(*slow)


@pytest.mark.parametrize("kind", WHOLE)
async def test_many_calls_that_must_not_stay_half_done_hold_up_no_quick_one(
    libpod: FakeLibpod, podman: Podman, hanging: Hanging, kind: str
) -> None:
    begin, method, path = WHOLE[kind]
    libpod.on_json("POST", "/containers/create", {"Id": "c0ffee"})
    libpod.on_json("POST", "/images/pull", {"id": "image"})
    libpod.on_json("GET", "/images/image/json", {"Id": "image"})
    for number in range(MANY):
        name = f"{NAME}{number}"
        for removed in (name, f"helper{number}"):
            libpod.on("DELETE", f"/containers/{removed}", no_content)
        libpod.on("DELETE", f"/images/localhost%2Fx%3A{number}", no_content)
        libpod.on_json("GET", f"/containers/{name}/json", {"Image": "image", "StaticDir": "/x"})
        libpod.on(method, path.format(name=name), hanging)
    slow = [asyncio.create_task(begin(podman, number)) for number in range(MANY)]
    async with asyncio.timeout(10):
        for _ in slow:
            await hanging.asked.acquire()
    await quick_calls_are_answered(libpod, podman)
    hanging.go_on.set()
    await asyncio.gather(*slow, return_exceptions=True)


@pytest.mark.parametrize("kind", SLOW)
async def test_a_cancelled_slow_call_lets_go_at_once_and_hangs_up(
    libpod: FakeLibpod, podman: Podman, hanging: Hanging, kind: str
) -> None:
    begin, path = SLOW[kind]
    libpod.on("POST", path.format(name=f"{NAME}1"), hanging)
    slow = asyncio.create_task(begin(podman, 1))
    await hanging.asked.acquire()
    began = time.monotonic()
    await cancelled(slow)
    assert time.monotonic() - began < SOON
    # Podman ends a pull when nobody waits for it any more.
    async with asyncio.timeout(1):
        while hanging.under_way:  # noqa: ASYNC110 - aiohttp tells nobody
            await asyncio.sleep(0.001)


async def test_a_cancelled_checkpoint_writes_nothing_after_its_caller_went_on(
    libpod: FakeLibpod, podman: Podman
) -> None:
    """Or its archive appeared after the caller had cleaned up."""
    loop, reading, ended = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half of an archive")
        await asyncio.sleep(3600)
        return response

    def consume(chunks: Iterator[bytes]) -> None:
        try:
            for _ in chunks:
                loop.call_soon_threadsafe(reading.set)
        finally:
            time.sleep(0.05)  # it cleans up
            ended.set()

    libpod.on("POST", f"/containers/{NAME}/checkpoint", half)
    slow = asyncio.create_task(podman.checkpoint(NAME, CRIUOptions(), consume))
    await reading.wait()
    await cancelled(slow)
    assert ended.is_set()


async def test_calls_to_a_container_that_hangs_take_no_threads_from_others(
    libpod: FakeLibpod, podman: Podman, hanging: Hanging
) -> None:
    libpod.on("GET", f"/containers/{NAME}/json", hanging)
    libpod.on("GET", "/containers/json", hanging)
    libpod.on("POST", f"/containers/{OTHER}/pause", no_content)
    calls: list[asyncio.Task[Any]] = []
    for _ in range(100):
        calls.append(asyncio.create_task(podman.inspect(NAME)))
        calls.append(asyncio.create_task(podman.list_containers("tryitnow_")))
    await hanging.asked.acquire()
    await hanging.asked.acquire()
    began = time.monotonic()
    await podman.pause(OTHER)
    assert time.monotonic() - began < SOON
    assert hanging.under_way == 2, "all others wait here, without a thread"
    for call in calls:
        call.cancel()
    hanging.go_on.set()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_call_that_waits_for_its_turn_is_cancelled_at_once(
    libpod: FakeLibpod, podman: Podman, hanging: Hanging
) -> None:
    libpod.on("POST", f"/containers/{NAME}/start", hanging)
    first = asyncio.create_task(podman.start(NAME))
    await hanging.asked.acquire()
    second = asyncio.create_task(podman.start(NAME))
    await asyncio.sleep(0.01)
    await cancelled(second)
    assert len(libpod.asked) == 1
    hanging.go_on.set()
    await asyncio.gather(first, return_exceptions=True)


async def test_a_removal_waits_for_a_restore_that_goes_on_after_it_was_cancelled(
    libpod: FakeLibpod, podman: Podman
) -> None:
    """As Podman does it: it restores on, and holds the container's lock meanwhile."""
    lock, restoring, go_on = asyncio.Lock(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with lock:
            restoring.set()
            await go_on.wait()

    in_podman: list[asyncio.Task[None]] = []

    async def restore(_: web.Request) -> web.StreamResponse:
        in_podman.append(asyncio.create_task(work()))
        await asyncio.shield(in_podman[0])
        return web.json_response({})

    async def remove(_: web.Request) -> web.StreamResponse:
        async with lock:
            return web.json_response([])

    libpod.on("POST", f"/containers/{NAME}/restore", restore)
    libpod.on("DELETE", f"/containers/{NAME}", remove)
    restored = asyncio.create_task(podman.restore(NAME, CRIUOptions()))
    await restoring.wait()
    await cancelled(restored)
    removing = asyncio.create_task(podman.remove(NAME))
    await asyncio.sleep(0.05)
    assert not removing.done()
    go_on.set()
    await removing
    await asyncio.gather(*in_podman)


async def test_a_service_that_takes_too_long_is_busy_not_gone(
    libpod: FakeLibpod, podman: Podman, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tryitnow.podman.client.CALL_SECONDS", 0.05)
    libpod.on("GET", "/_ping", hanging)
    with pytest.raises(PodmanBusyError, match="it is busy"):
        await podman.ping()
    assert issubclass(PodmanBusyError, PodmanUnreachableError)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_pods_are_not_listed_while_a_container_is_checkpointed(
    libpod: FakeLibpod, podman: Podman
) -> None:
    """Podman waits for ever then: each of the two calls holds what the other needs."""
    hanging = Hanging()
    libpod.on("POST", f"/containers/{NAME}/checkpoint", hanging)
    libpod.on_json("GET", "/containers/json", [])
    libpod.on_json("GET", "/pods/json", [])
    checkpointing = asyncio.create_task(podman.checkpoint(NAME, CRIUOptions(), list))
    await hanging.asked.acquire()
    listing = asyncio.create_task(podman.list_pods("tryitnow_"))
    done, _ = await asyncio.wait({listing}, timeout=SOON)
    assert not done
    hanging.go_on.set()
    await asyncio.gather(checkpointing, return_exceptions=True)
    assert await listing == []


async def test_a_checkpoint_that_is_cancelled_lets_pods_be_listed_when_podman_is_through_with_it(
    libpod: FakeLibpod, podman: Podman
) -> None:
    """Podman goes on with it when nobody listens any more, and holds the container's lock."""
    checkpoint, inspection = Hanging(), Hanging()
    libpod.on("POST", f"/containers/{NAME}/checkpoint", checkpoint)
    libpod.on("GET", f"/containers/{NAME}/json", inspection)
    libpod.on_json("GET", "/containers/json", [])
    libpod.on_json("GET", "/pods/json", [])
    checkpointing = asyncio.create_task(podman.checkpoint(NAME, CRIUOptions(), list))
    await checkpoint.asked.acquire()
    checkpointing.cancel()
    await asyncio.wait_for(inspection.asked.acquire(), timeout=5)
    listing = asyncio.create_task(podman.list_pods("tryitnow_"))
    done, _ = await asyncio.wait({listing, checkpointing}, timeout=SOON)
    assert not done
    inspection.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await checkpointing
    assert await asyncio.wait_for(listing, timeout=5) == []


async def test_containers_of_a_pod_are_checkpointed_at_the_same_time(
    libpod: FakeLibpod, podman: Podman
) -> None:
    hanging = Hanging()
    both = []
    for name in (NAME, OTHER):
        libpod.on("POST", f"/containers/{name}/checkpoint", hanging)
        both.append(asyncio.create_task(podman.checkpoint(name, CRIUOptions(), list)))
    for _ in both:
        await asyncio.wait_for(hanging.asked.acquire(), timeout=5)
    hanging.go_on.set()
    await asyncio.gather(*both, return_exceptions=True)
