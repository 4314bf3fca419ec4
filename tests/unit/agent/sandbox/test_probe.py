"""Asking an application whether it is ready: a real HTTP server answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import aiohttp
import pytest
from aiohttp import web

from tests.unit.builders import make_definition
from tests.unit.virtual_time import in_virtual_time
from tryitnow.agent.errors import ContainerDiedError, NotReadyError
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import PodName
from tryitnow.agent.sandbox.probe import Prober, Target, ask, open_session, wait_until
from tryitnow.agent.transfer.certificate import make_certificate
from tryitnow.api.definition import HTTPGet, Readiness
from tryitnow.api.template import Scheme
from tryitnow.podman.client import PortMapping
from tryitnow.settings import AgentSettings

ADDRESS = "127.77.0.2"
SOON = timedelta(seconds=5)
SHORT = timedelta(milliseconds=150)


async def lives() -> bool:
    return True


async def is_dead() -> bool:
    return False


class Application:
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.status = 200
        self.body = "welcome"
        self.headers: dict[str, str] = {}
        self.ready_after = 0
        self.hangs = False
        self.ended = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        if self.hangs:
            await self.ended.wait()
        status = self.status if len(self.asked) > self.ready_after else 503
        return web.Response(status=status, text=self.body, headers=self.headers)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
async def port(application: Application) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/{path:.*}", application.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, ADDRESS, 0).start()
    yield int(runner.addresses[0][1])
    application.ended.set()
    await runner.cleanup()


async def wait_ready(
    session: aiohttp.ClientSession,
    asked: Target,
    deadline: timedelta,
    alive: Callable[[], Awaitable[bool]],
) -> timedelta:
    return await wait_until(lambda: ask(session, asked), deadline, alive)


def target(port: int, **readiness: object) -> Target:
    return Target(ADDRESS, port, Readiness.model_validate(readiness))


async def test_ready_is_the_expected_status(
    session: aiohttp.ClientSession, port: int, application: Application
) -> None:
    application.status = 204
    ready = target(port, expected_status=204)
    assert await ask(session, ready) is None
    assert await ask(session, target(port)) == f"http://{ADDRESS}:{port}/ answered 204, not 200"


async def test_a_redirect_is_not_followed(
    session: aiohttp.ClientSession, port: int, application: Application
) -> None:
    application.status, application.headers = 302, {"Location": "/login"}
    message = await ask(session, target(port))
    assert message is not None
    assert "answered 302" in message
    assert [r.path for r in application.asked] == ["/"]
    assert await ask(session, target(port, expected_status=302)) is None


async def test_ready_may_ask_for_a_text(
    session: aiohttp.ClientSession, port: int, application: Application
) -> None:
    application.body = "x" * 100_000 + "Bücher" + "x" * 100_000
    assert await ask(session, target(port, expected_body="Bücher")) is None
    message = await ask(session, target(port, expected_body="Shoes"))
    assert message == f"http://{ADDRESS}:{port}/ answered without the text 'Shoes'"


async def test_the_path_and_the_host_header_are_those_of_the_spec(
    session: aiohttp.ClientSession, port: int, application: Application
) -> None:
    http_get = HTTPGet(path="/health?deep=1", host="shop.example")
    assert await ask(session, target(port, http_get=http_get)) is None
    [request] = application.asked
    assert request.path_qs == "/health?deep=1"
    assert request.headers["Host"] == "shop.example"


async def test_the_host_header_is_the_address_unless_told_otherwise(
    session: aiohttp.ClientSession, port: int, application: Application
) -> None:
    await ask(session, target(port))
    assert application.asked[0].headers["Host"] == f"{ADDRESS}:{port}"


async def test_cookies_of_one_demo_do_not_reach_another(
    session: aiohttp.ClientSession, port: int, application: Application
) -> None:
    application.headers = {"Set-Cookie": "session=annas"}
    await ask(session, target(port))
    await ask(session, target(port))
    assert "Cookie" not in application.asked[1].headers


async def test_it_is_asked_again_until_it_is_ready(
    session: aiohttp.ClientSession, port: int, application: Application
) -> None:
    application.ready_after = 3
    took = await wait_ready(session, target(port), SOON, lives)
    assert len(application.asked) == 4
    assert timedelta() < took < SOON


async def test_an_application_that_listens_later_is_waited_for(
    session: aiohttp.ClientSession,
) -> None:
    with_gap = await asyncio.start_server(lambda _, w: w.close(), ADDRESS, 0)
    port = with_gap.sockets[0].getsockname()[1]
    with_gap.close()
    await with_gap.wait_closed()
    waiting = asyncio.create_task(wait_ready(session, target(port), SOON, lives))
    await asyncio.sleep(0.05)
    app = web.Application()
    app.router.add_get("/", Application().answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, ADDRESS, port).start()
    assert await waiting < SOON
    await runner.cleanup()


async def test_the_deadline_ends_the_waiting_with_the_last_answer(
    session: aiohttp.ClientSession, port: int, application: Application
) -> None:
    application.status = 500
    began = time.monotonic()
    with pytest.raises(NotReadyError, match=r"not ready after 0\.15 s.*answered 500, not 200"):
        await wait_ready(session, target(port), SHORT, lives)
    assert time.monotonic() - began < 1


async def test_the_deadline_holds_against_an_application_that_never_answers(
    session: aiohttp.ClientSession, port: int, application: Application
) -> None:
    application.hangs = True
    began = time.monotonic()
    with pytest.raises(NotReadyError):
        await wait_ready(session, target(port), SHORT, lives)
    assert time.monotonic() - began < 1


async def test_an_application_that_breaks_off_is_not_ready(session: aiohttp.ClientSession) -> None:
    rude = await asyncio.start_server(lambda _, w: w.close(), ADDRESS, 0)
    port = rude.sockets[0].getsockname()[1]
    with pytest.raises(NotReadyError, match="does not answer"):
        await wait_ready(session, target(port), SHORT, lives)
    rude.close()
    await rude.wait_closed()


async def test_a_container_that_ended_is_not_waited_for(
    session: aiohttp.ClientSession, port: int, application: Application
) -> None:
    application.status = 503
    began = time.monotonic()
    with pytest.raises(ContainerDiedError, match=r"ended before it was ready.*503"):
        await wait_ready(session, target(port), timedelta(minutes=5), is_dead)
    assert time.monotonic() - began < 3


async def test_cancelling_ends_the_waiting_at_once(
    session: aiohttp.ClientSession, port: int, application: Application
) -> None:
    application.hangs = True
    waiting = asyncio.create_task(wait_ready(session, target(port), SOON, lives))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("192.0.2.1", "http://192.0.2.1:20001"),
        ("node-a.example", "http://node-a.example:20001"),
        ("2001:db8::1", "http://[2001:db8::1]:20001"),
    ],
)
def test_the_url_is_one_that_a_browser_takes(address: str, url: str) -> None:
    asked = Target(address, 20001, Readiness(http_get=HTTPGet(path="/health")))
    assert (asked.base_url, asked.url) == (url, f"{url}/health")


async def test_a_node_with_an_ipv6_address_is_asked_too(
    session: aiohttp.ClientSession, application: Application
) -> None:
    app = web.Application()
    app.router.add_get("/", application.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "::1", 0).start()
    port = runner.addresses[0][1]
    try:
        assert await ask(session, Target("::1", port, Readiness())) is None
    finally:
        await runner.cleanup()


# -- HTTPS ----------------------------------------------------------------------------------------


@pytest.fixture
async def https_port(application: Application) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/{path:.*}", application.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    certificate = make_certificate("shop.example")  # of another name, and signed by nobody
    await web.TCPSite(runner, ADDRESS, 0, ssl_context=certificate.context).start()
    yield int(runner.addresses[0][1])
    application.ended.set()
    await runner.cleanup()


async def test_https_takes_any_certificate_as_a_pods_probe_does(
    session: aiohttp.ClientSession, https_port: int
) -> None:
    ready = target(https_port, http_get=HTTPGet(scheme=Scheme.HTTPS))
    assert ready.base_url == f"https://{ADDRESS}:{https_port}"
    assert await ask(session, ready) is None
    assert await ask(session, target(https_port)) is not None


async def test_a_way_to_https_names_the_field_to_set(
    session: aiohttp.ClientSession, port: int, application: Application
) -> None:
    application.status, application.headers = 301, {"Location": "https://shop.example/"}
    message = await ask(session, target(port))
    assert message is not None
    assert message.endswith("set readiness.httpGet.scheme to HTTPS")


# -- time -----------------------------------------------------------------------------------------


async def _lasts(answer_after: float, runs: list[float]) -> timedelta:
    clock = asyncio.get_running_loop().time

    async def probe_once() -> str | None:
        runs.append(clock())
        return None if clock() >= answer_after else "not yet"

    return await wait_until(probe_once, timedelta(minutes=5), lives)


def test_a_start_of_minutes_is_not_asked_thousands_of_times() -> None:
    runs: list[float] = []
    took = in_virtual_time(_lasts(200, runs))
    assert timedelta(seconds=200) <= took < timedelta(seconds=201)
    assert len(runs) < 450
    assert runs[1] < 0.01, "and a restore is not waited for"


async def _dies_after(seconds: float) -> float:
    clock = asyncio.get_running_loop().time

    async def probe_once() -> str | None:
        return "nobody listens"

    async def alive() -> bool:
        return clock() < seconds

    with pytest.raises(ContainerDiedError, match="nobody listens"):
        await wait_until(probe_once, timedelta(minutes=5), alive)
    return clock()


def test_the_end_of_a_container_is_seen_within_two_seconds() -> None:
    assert in_virtual_time(_dies_after(60)) < 62


# -- the way of clients ---------------------------------------------------------------------------


async def test_clients_and_probes_ask_by_the_same_name(
    session: aiohttp.ClientSession, settings: AgentSettings
) -> None:
    sandbox = Sandbox(PodName("0" * 16), (PortMapping(20001, 8080),), pid=1)
    found = Prober(settings, session).published(make_definition(), sandbox)
    assert found.url == f"http://{settings.node_address}:20001/"
    assert found.headers == {"Host": f"{settings.node_address}:20001"}
    hosted = Prober(replace(settings, public_host="node-a.demos.example.com"), session)
    found = hosted.published(make_definition(), sandbox)
    assert found.base_url == f"http://{settings.node_address}:20001"
    assert found.headers == {"Host": "node-a.demos.example.com:20001"}


async def test_a_port_that_a_sandbox_does_not_publish_is_an_error(
    session: aiohttp.ClientSession, settings: AgentSettings
) -> None:
    sandbox = Sandbox(PodName("0" * 16), (), pid=1)
    with pytest.raises(KeyError):
        Prober(settings, session).published(make_definition(), sandbox)
