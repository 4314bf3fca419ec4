"""Archives from agent to agent: several nodes in one process, real TLS, real files.

The one fake is the API server's TokenReview (``FakeKubernetes.tokens``).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import aiohttp
import pytest
from aiohttp import web

from tests.unit.builders import (
    REVISION,
    make_archive,
    make_definition,
    make_node,
    make_node_checkpoint,
)
from tests.unit.fakes import FakeKubernetes
from tryitnow.agent.errors import ArchiveMissingError, NodeShortError
from tryitnow.agent.storage.archives import ArchiveName, ArchiveStore
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.agent.transfer.audit import REVISION_HEADER
from tryitnow.agent.transfer.certificate import (
    LEAD_SECONDS,
    ROTATE_SECONDS,
    Certificates,
    make_certificate,
    trust_only,
)
from tryitnow.agent.transfer.client import Fetcher, FetchError, Timeouts
from tryitnow.agent.transfer.identify import Identities, TooManyTokensError
from tryitnow.agent.transfer.server import Held, TransferServer
from tryitnow.api.definition import Compression
from tryitnow.api.limits import DISK_FULL
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import Fetch, Source
from tryitnow.kubernetes.client import TokenIdentity
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.metrics.family import Program
from tryitnow.metrics.instruments import Metrics
from tryitnow.settings import AgentSettings

CONTENT = os.urandom(3 << 20)
ARCHIVE = make_archive(CONTENT)
DEFINITION = make_definition()
NAME = ArchiveName(Key("default", "shop"), REVISION, Compression.NONE)

TOKEN = "token of an agent"
AGENT = TokenIdentity("system:serviceaccount:tryitnow-system:tryitnow-agent", "node-a")
ORDER = make_node_checkpoint("node-a", fetch=Fetch(archive=ARCHIVE))
"""Node-a is to fetch the archive."""


@dataclass
class Peer:
    """Another node, which has the archive and serves it."""

    name: str
    address: str
    archives: ArchiveStore
    server: TransferServer
    certificate: Certificates

    @property
    def file(self) -> Path:
        return self.archives.path(NAME)

    def source(self, **changes: str) -> Source:
        whole = {
            "node_name": self.name,
            "url": self.server.url,
            "certificate": self.certificate.pem,
        }
        return Source(**{**whole, **changes})

    def damage(self, at: int) -> None:
        with self.file.open("r+b") as file:
            file.seek(at)
            file.write(bytes([CONTENT[at] ^ 1]))

    async def get(
        self, *, token: str = TOKEN, sha256: str = ARCHIVE.sha256, revision: str = REVISION
    ) -> tuple[int, str]:
        """Ask it as an agent would; return status and text."""
        trust = trust_only(self.certificate.pem)
        headers = {REVISION_HEADER: revision}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        url = f"{self.server.url}/{sha256}"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers=headers, ssl=trust) as answer,
        ):
            return answer.status, (await answer.read())[:200].decode(errors="replace")


class AddPeer(Protocol):
    """Start a node that has the archive; its certificate is for another address if one is given."""

    async def __call__(self, name: str, certified_address: str = "") -> Peer: ...


@pytest.fixture
def now() -> list[float]:
    """Seconds of the peers' clock."""
    return [0.0]


@pytest.fixture
async def add_peer(
    settings: AgentSettings, tmp_path: Path, kubernetes: FakeKubernetes, port: int, now: list[float]
) -> AsyncIterator[AddPeer]:
    kubernetes.tokens[TOKEN] = AGENT
    kubernetes.put(ORDER)
    async with AsyncExitStack() as stack:

        async def add(name: str, certified_address: str = "") -> Peer:
            address = f"127.77.1.{ord(name[-1])}"
            theirs = replace(settings, node_name=name, node_address=address, transfer_port=port)
            kubernetes.put(make_node(name, address=address))
            archives = ArchiveStore(tmp_path / name)
            archives.open()
            archives.path(NAME).write_bytes(CONTENT)
            good = {ARCHIVE.sha256: Held(archives.path(NAME), make_node_checkpoint(name))}
            server = TransferServer(theirs, kubernetes, good.get)
            certificate = Certificates(certified_address or address, lambda: now[0])
            await server.start(certificate)
            stack.push_async_callback(server.stop)
            return Peer(name, address, archives, server, certificate)

        yield add


@pytest.fixture
def archives(tmp_path: Path) -> ArchiveStore:
    archives = ArchiveStore(tmp_path / "node-a")
    archives.open()
    return archives


@pytest.fixture
def free() -> list[int]:
    """Free bytes of the disk."""
    return [1 << 40]


@pytest.fixture
def port() -> int:
    """The port that all agents of the cluster serve on."""
    return _free_port("127.77.1.98")


@pytest.fixture
def fetcher(
    archives: ArchiveStore,
    settings: AgentSettings,
    free: list[int],
    kubernetes: FakeKubernetes,
    port: int,
) -> Fetcher:
    disk = Ledger(DISK_FULL, "disk", lambda: free[0], 0)
    token_file = settings.transfer_token_file
    kubernetes.put(make_node("evil", address=EVIL_ADDRESS))
    return Fetcher(archives, disk, Metrics(Program.AGENT), token_file, kubernetes, port)


def _free_port(address: str) -> int:
    with socket.socket() as listener:
        listener.bind((address, 0))
        port: int = listener.getsockname()[1]
        return port


async def fetch_from(fetcher: Fetcher, *sources: Source) -> None:
    await fetcher.fetch(NAME, Fetch(archive=ARCHIVE, sources=sources), DEFINITION)


def assert_nothing_kept(fetcher: Fetcher) -> None:
    assert fetcher.archives.names() == set()
    assert fetcher.disk.reserved_bytes == 0


def partial_of(fetcher: Fetcher, source: str = "node-b") -> Path:
    return fetcher.archives.partial(NAME, ARCHIVE.sha256, source)


# -- the good way ---------------------------------------------------------------------------------


async def test_an_archive_arrives_to_the_byte(fetcher: Fetcher, add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    await fetch_from(fetcher, peer.source())
    fetcher.archives.check(NAME, ARCHIVE)
    assert fetcher.archives.path(NAME).stat().st_mode & 0o777 == 0o600
    assert fetcher.archives.names() == {str(NAME), f"{NAME.stem}.md"}


async def test_a_download_goes_on_where_it_broke_off(fetcher: Fetcher, add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    partial_of(fetcher).write_bytes(CONTENT[: 2 << 20])
    peer.damage(1000)  # a byte that is here already, and so is not asked for again
    await fetch_from(fetcher, peer.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_what_one_source_began_is_kept_while_another_is_asked(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    first, second = await add_peer("node-b"), await add_peer("node-c")
    first.file.unlink()
    second.file.unlink()
    partial_of(fetcher, "node-b").write_bytes(CONTENT[: 2 << 20])
    with pytest.raises(FetchError):
        await fetch_from(fetcher, first.source(), second.source())
    first.file.write_bytes(CONTENT)
    first.damage(1000)  # a byte that is here already
    await fetch_from(fetcher, second.source(), first.source())
    fetcher.archives.check(NAME, ARCHIVE)
    assert fetcher.archives.names() == {str(NAME), f"{NAME.stem}.md"}


async def test_a_complete_download_is_not_asked_for_again(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    peer = await add_peer("node-b")
    partial_of(fetcher).write_bytes(CONTENT)
    peer.file.unlink()
    await fetch_from(fetcher, peer.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_an_archive_that_is_here_is_not_fetched_again(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    peer = await add_peer("node-b")
    await fetch_from(fetcher, peer.source())
    peer.file.unlink()
    await fetch_from(fetcher, peer.source())
    fetcher.archives.path(NAME).write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(FetchError):
        await fetch_from(fetcher, peer.source())


async def test_a_download_that_is_too_long_starts_anew(fetcher: Fetcher, add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    partial_of(fetcher).write_bytes(CONTENT + b"more")
    await fetch_from(fetcher, peer.source())
    fetcher.archives.check(NAME, ARCHIVE)


# -- what sources give is not believed ------------------------------------------------------------


async def test_a_damaged_source_is_dropped_and_the_next_is_asked(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    damaged, good = await add_peer("node-b"), await add_peer("node-c")
    damaged.damage(2_000_000)
    await fetch_from(fetcher, damaged.source(), good.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_of_a_damaged_source_alone_nothing_is_kept(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    damaged = await add_peer("node-b")
    damaged.damage(2_000_000)
    with pytest.raises(FetchError, match=r"node-b: its archive has sha256 .*; dropped"):
        await fetch_from(fetcher, damaged.source())
    assert_nothing_kept(fetcher)


async def test_a_damaged_first_half_from_before_is_dropped_as_well(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    one, two = await add_peer("node-b"), await add_peer("node-c")
    partial_of(fetcher).write_bytes(b"\0" * (2 << 20))
    await fetch_from(fetcher, one.source(), two.source())
    fetcher.archives.check(NAME, ARCHIVE)


@pytest.mark.parametrize("size", [0, 1_000_000, len(CONTENT) - 1, len(CONTENT) + 1])
async def test_a_source_of_the_wrong_length_is_passed_over(
    fetcher: Fetcher, add_peer: AddPeer, size: int
) -> None:
    wrong, good = await add_peer("node-b"), await add_peer("node-c")
    os.truncate(wrong.file, size)
    await fetch_from(fetcher, wrong.source(), good.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_of_several_downloads_that_broke_off_the_longest_is_kept(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    peer = await add_peer("node-b")
    peer.file.unlink()
    for size, node in enumerate(("node-c", "node-d", "node-e"), start=1):
        partial_of(fetcher, node).write_bytes(CONTENT[:size])
    partial_of(fetcher).write_bytes(b"")
    with pytest.raises(FetchError):
        await fetch_from(fetcher, peer.source())
    kept = {partial_of(fetcher).name, partial_of(fetcher, "node-e").name}
    assert fetcher.archives.names() == kept


async def test_a_source_that_is_away_is_passed_over(
    fetcher: Fetcher, add_peer: AddPeer, kubernetes: FakeKubernetes, port: int
) -> None:
    good = await add_peer("node-c")
    kubernetes.put(make_node("node-b", address="127.77.1.99"))
    away = good.source(node_name="node-b", url=f"https://127.77.1.99:{port}/archives")
    await fetch_from(fetcher, away, good.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_an_agent_that_is_still_starting_is_told_from_a_connection_that_breaks(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    peer = await add_peer("node-c")
    await peer.server.stop()
    with pytest.raises(FetchError, match=r"does not listen at .* it may be starting"):
        await fetch_from(fetcher, peer.source())


async def test_when_all_fail_each_says_why(fetcher: Fetcher, add_peer: AddPeer) -> None:
    gone, damaged = await add_peer("node-b"), await add_peer("node-c")
    gone.file.unlink()
    damaged.damage(0)
    with pytest.raises(FetchError) as caught:
        await fetch_from(fetcher, gone.source(), damaged.source())
    message = str(caught.value)
    assert f"{NAME} could not be fetched" in message
    assert "node-b: it answered 404: node-b has no good archive" in message
    assert "node-c: its archive has sha256" in message


async def test_without_sources_it_says_so(fetcher: Fetcher) -> None:
    with pytest.raises(FetchError, match="no node has it"):
        await fetch_from(fetcher)


# -- who is believed, and who may ask -------------------------------------------------------------


async def test_the_certificate_of_another_agent_is_refused(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    peer, other = await add_peer("node-b"), await add_peer("node-c")
    impostor = peer.source(certificate=other.certificate.pem)
    with pytest.raises(FetchError, match="node-b: it shows another certificate than"):
        await fetch_from(fetcher, impostor)
    assert_nothing_kept(fetcher)


async def test_a_certificate_for_another_address_is_refused(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    peer = await add_peer("node-b", certified_address="127.77.1.97")
    with pytest.raises(FetchError, match="node-b: it shows another certificate than"):
        await fetch_from(fetcher, peer.source())
    assert_nothing_kept(fetcher)


async def test_a_source_with_an_unreadable_certificate_is_passed_over(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    peer, good = await add_peer("node-b"), await add_peer("node-c")
    await fetch_from(fetcher, peer.source(certificate="no certificate"), good.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_a_source_without_a_certificate_is_passed_over(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    peer, good = await add_peer("node-b"), await add_peer("node-c")
    await fetch_from(fetcher, peer.source(certificate=""), good.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_a_source_without_a_certificate_is_named(fetcher: Fetcher, add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    with pytest.raises(FetchError, match="node-b: it has published no usable certificate"):
        await fetch_from(fetcher, peer.source(certificate=""))


async def test_the_token_of_somebody_else_is_refused(
    fetcher: Fetcher, add_peer: AddPeer, kubernetes: FakeKubernetes
) -> None:
    peer = await add_peer("node-b")
    kubernetes.tokens[TOKEN] = TokenIdentity("system:serviceaccount:default:default")
    with pytest.raises(FetchError, match="node-b: it answered 401"):
        await fetch_from(fetcher, peer.source())
    assert_nothing_kept(fetcher)


@pytest.mark.parametrize("token", ["", "made up", "token"])
async def test_without_an_agents_token_there_is_no_archive(add_peer: AddPeer, token: str) -> None:
    peer = await add_peer("node-b")
    status, text = await peer.get(token=token)
    assert status == 401
    assert text == "the token is not that of a try-it-now agent\n"


async def test_a_good_token_is_reviewed_once_per_download(
    add_peer: AddPeer, kubernetes: FakeKubernetes
) -> None:
    peer = await add_peer("node-b")
    for _ in range(3):
        assert (await peer.get())[0] == 200
    assert kubernetes.reviews == 1
    for _ in range(2):
        assert (await peer.get(token="made up"))[0] == 401
    assert kubernetes.reviews == 2


async def test_a_token_that_cannot_be_reviewed_is_not_refused_but_asked_to_wait(
    add_peer: AddPeer, kubernetes: FakeKubernetes
) -> None:
    peer = await add_peer("node-b")
    kubernetes.is_down = True
    status, text = await peer.get()
    assert status == 503
    assert "cannot review the token" in text


async def test_only_good_archives_are_served(add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    assert (await peer.get(sha256="0" * 64))[0] == 404
    assert (await peer.get(sha256="..%2Fdefault_shop.md"))[0] == 404
    peer.file.unlink()
    status, text = await peer.get()
    assert status == 404
    assert "node-b has no good archive" in text


def test_the_url_of_an_ipv6_node_can_be_asked(
    settings: AgentSettings, kubernetes: FakeKubernetes
) -> None:
    theirs = replace(settings, node_address="2001:db8::1", transfer_port=9443)
    url = TransferServer(theirs, kubernetes, lambda _: None).url
    assert url == "https://[2001:db8::1]:9443/archives"


async def test_a_server_that_was_stopped_can_be_stopped_again(add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    await peer.server.stop()
    await peer.server.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await peer.get()


@pytest.mark.parametrize(
    "url",
    [
        "https://203.0.113.9:443/x",
        "https://127.77.1.66:{port}/archives",
        "https://{address}:1/archives",
        "http://{address}:{port}/archives",
        "https://{address}:{port}/archives/../x",
        "https://{address}:{port}",
        "https://x@{address}:{port}/archives",
    ],
)
async def test_nothing_is_asked_anywhere_but_at_the_nodes_own_address(
    fetcher: Fetcher, add_peer: AddPeer, url: str, port: int
) -> None:
    peer = await add_peer("node-b")
    lured = peer.source(url=url.format(address=peer.address, port=port))
    with pytest.raises(FetchError, match="is not at an address of its Node"):
        await fetch_from(fetcher, lured)
    assert_nothing_kept(fetcher)


async def test_a_source_whose_node_is_not_known_is_passed_over(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    good = await add_peer("node-c")
    with pytest.raises(FetchError, match="the address of its Node is not known"):
        await fetch_from(fetcher, good.source(node_name="node-x"))


# -- to whom an archive is given ------------------------------------------------------------------


def audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, str]]:
    return [json.loads(r.getMessage()) for r in caplog.records if r.name == "tryitnow.audit"]


async def test_an_archive_that_is_given_is_logged(
    fetcher: Fetcher, add_peer: AddPeer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    peer = await add_peer("node-b")
    await fetch_from(fetcher, peer.source())
    [line] = audited(caplog)
    assert line.pop("remote")
    assert line == {
        "event": "archive",
        "outcome": "given",
        "sha256": ARCHIVE.sha256,
        "node": "node-a",
        "namespace": "default",
        "checkpoint": "shop",
        "revision": ORDER.spec.revision,
    }


OTHER = make_archive(b"another one")

REFUSED = {
    "no NodeCheckpoint of it": None,
    "is not to fetch it": make_node_checkpoint("node-a"),
    "is to fetch another archive": make_node_checkpoint("node-a", fetch=Fetch(archive=OTHER)),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_an_agent_whose_node_is_not_to_have_an_archive_does_not_get_it(
    add_peer: AddPeer, kubernetes: FakeKubernetes, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    peer = await add_peer("node-b")
    kubernetes.vanish(ORDER)
    if (order := REFUSED[why]) is not None:
        kubernetes.put(order)
    status, text = await peer.get()
    assert (status, why in text) == (403, True)
    [line] = audited(caplog)
    assert (line["outcome"], line["node"], line["sha256"]) == ("refused", "node-a", ARCHIVE.sha256)
    assert why in line["why"]


async def test_the_memory_of_one_application_does_not_come_up_in_another(
    add_peer: AddPeer, caplog: pytest.LogCaptureFixture
) -> None:
    """With the controller's token one may order the archive of one for the revision of another."""
    peer = await add_peer("node-b")
    for revision in ("0" * 32, ""):
        status, text = await peer.get(revision=revision)
        assert (status, "of another revision" in text) == (403, True)
    assert [line["outcome"] for line in audited(caplog)] == ["refused", "refused"]


async def test_an_order_that_is_being_deleted_is_none(
    add_peer: AddPeer, kubernetes: FakeKubernetes
) -> None:
    peer = await add_peer("node-b")
    fetch = Fetch(archive=ARCHIVE)
    kubernetes.put(make_node_checkpoint("node-a", fetch=fetch, deleting=True))
    assert (await peer.get())[0] == 403


async def test_the_order_of_another_node_is_of_no_use(
    add_peer: AddPeer, kubernetes: FakeKubernetes
) -> None:
    peer = await add_peer("node-b")
    for node, status in (("node-c", 403), ("", 403), ("node-a", 200)):
        token = f"token-of-{node}-"
        kubernetes.tokens[token] = replace(AGENT, node=node)
        assert (await peer.get(token=token))[0] == status


async def test_who_is_no_agent_is_logged(
    add_peer: AddPeer, kubernetes: FakeKubernetes, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await add_peer("node-b")
    user = "system:serviceaccount:default:default"
    kubernetes.tokens["somebody"] = TokenIdentity(user)
    assert (await peer.get(token="somebody"))[0] == 401
    [line] = audited(caplog)
    assert (line["outcome"], line["user"]) == ("refused", user)


async def test_while_an_order_cannot_be_read_one_is_asked_to_wait(
    add_peer: AddPeer, kubernetes: FakeKubernetes
) -> None:
    peer = await add_peer("node-b")
    assert (await peer.get())[0] == 200
    kubernetes.refusals["GET", "nodecheckpoints"] = KubernetesError("it does not answer")
    status, text = await peer.get()
    assert (status, "cannot read the order" in text) == (503, True)


# -- room -----------------------------------------------------------------------------------------


async def test_a_full_disk_is_a_limit_of_the_node_before_anything_is_fetched(
    fetcher: Fetcher, add_peer: AddPeer, free: list[int]
) -> None:
    peer = await add_peer("node-b")
    free[0] = len(CONTENT) - 1
    with pytest.raises(NodeShortError, match=r"fetching .* needs 3 MiB of disk; 2 MiB") as caught:
        await fetch_from(fetcher, peer.source())
    assert caught.value.limit == DISK_FULL
    assert_nothing_kept(fetcher)


async def test_a_download_that_goes_on_needs_room_for_the_rest_only(
    fetcher: Fetcher, add_peer: AddPeer, free: list[int]
) -> None:
    peer = await add_peer("node-b")
    partial_of(fetcher).write_bytes(CONTENT[: 2 << 20])
    free[0] = 1 << 20
    await fetch_from(fetcher, peer.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_a_disk_that_cannot_be_written_is_a_limit_of_the_node(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    peer = await add_peer("node-b")
    (fetcher.archives.directory / f".{NAME.stem}.md.new").mkdir()
    partial_of(fetcher).mkdir()
    with pytest.raises(NodeShortError) as caught:
        await fetch_from(fetcher, peer.source())
    assert caught.value.limit == "DiskFailing"
    assert fetcher.disk.reserved_bytes == 0


async def test_an_agent_without_a_token_blames_neither_disk_nor_peer(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    peer = await add_peer("node-b")
    fetcher.token_file.unlink()
    with pytest.raises(FetchError, match="TRANSFER_TOKEN_FILE"):
        await fetch_from(fetcher, peer.source())


async def test_an_archive_that_was_not_fetched_is_missing(fetcher: Fetcher) -> None:
    with pytest.raises(ArchiveMissingError):
        fetcher.archives.check(NAME, ARCHIVE)


# -- peers that were taken over -------------------------------------------------------------------

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
EVIL_ADDRESS = "127.77.1.66"


@dataclass
class Evil:
    """A source that answers as a test says."""

    source: Source
    requests: list[web.Request]


@asynccontextmanager
async def evil_peer(fetcher: Fetcher, answer: Answer) -> AsyncIterator[Evil]:
    address, port = EVIL_ADDRESS, fetcher.transfer_port
    certificate, requests = make_certificate(address), []

    async def noted(request: web.Request) -> web.StreamResponse:
        requests.append(request)
        return await answer(request)

    app = web.Application()
    app.router.add_get("/{path:.*}", noted)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, address, port, ssl_context=certificate.context).start()
    url = f"https://{address}:{port}/archives"
    try:
        yield Evil(Source(node_name="evil", url=url, certificate=certificate.pem), requests)
    finally:
        await runner.cleanup()


async def broken_off(request: web.Request, content: bytes) -> web.StreamResponse:
    """Promise the whole archive, give a part, and break off."""
    answer = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
    await answer.prepare(request)
    await answer.write(content)
    assert request.transport is not None
    await asyncio.sleep(0.05)
    request.transport.abort()
    return answer


async def test_a_redirect_into_the_nodes_own_network_is_not_followed(fetcher: Fetcher) -> None:
    async def metadata(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response(text='{"SecretAccessKey": "of the node"}')

    asked: list[web.Request] = []
    app = web.Application()
    app.router.add_get("/{path:.*}", metadata)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = _free_port("127.77.1.67")
    await web.TCPSite(runner, "127.77.1.67", port).start()

    async def redirect(_: web.Request) -> web.Response:
        raise web.HTTPFound(f"http://127.77.1.67:{port}/latest/meta-data")

    try:
        async with evil_peer(fetcher, redirect) as evil:
            with pytest.raises(FetchError, match="evil: it answered 302") as caught:
                await fetch_from(fetcher, evil.source)
    finally:
        await runner.cleanup()
    assert asked == []
    assert "SecretAccessKey" not in str(caught.value)
    assert_nothing_kept(fetcher)


async def test_of_an_answer_without_end_little_is_read(fetcher: Fetcher) -> None:
    given = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal given
        answer = web.StreamResponse(status=500)
        await answer.prepare(request)
        with suppress(ConnectionError):
            while given < 1 << 30:
                await answer.write(b"x" * (1 << 16))
                given += 1 << 16
        return answer

    async with evil_peer(fetcher, endless) as evil:
        with pytest.raises(FetchError, match="it answered 500") as caught:
            await fetch_from(fetcher, evil.source)
    assert given < 32 << 20
    assert len(str(caught.value)) < 500


async def test_more_than_was_reserved_is_not_written(fetcher: Fetcher) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        with suppress(ConnectionError):
            for _ in range(1 << 10):
                await answer.write(bytes(1 << 20))
        return answer

    async with evil_peer(fetcher, endless) as evil:
        with pytest.raises(FetchError, match=f"bytes or more, not {len(CONTENT)}"):
            await fetch_from(fetcher, evil.source)
    assert_nothing_kept(fetcher)


async def test_what_one_source_gave_wrong_spoils_nothing_of_the_next(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    good = await add_peer("node-c")
    async with evil_peer(fetcher, lambda request: broken_off(request, bytes(4096))) as evil:
        await fetch_from(fetcher, evil.source, good.source())
    fetcher.archives.check(NAME, ARCHIVE)
    fetched = fetcher.metrics.registry.get_sample_value("tryitnow_fetched_bytes_total")
    assert fetched == len(CONTENT) + 4096, "the good one gave the whole once"


async def test_what_a_good_source_began_is_not_lost_to_a_bad_one(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    good = await add_peer("node-c")
    partial_of(fetcher, "node-c").write_bytes(CONTENT[: 2 << 20])
    good.damage(1000)  # is not asked for again
    wrong = bytes(len(CONTENT))
    async with evil_peer(fetcher, lambda _: respond(wrong)) as evil:
        await fetch_from(fetcher, evil.source, good.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def respond(content: bytes) -> web.StreamResponse:
    return web.Response(body=content)


@pytest.mark.parametrize(
    "headers",
    [
        b"".join(b"X-%d: x\r\n" % n for n in range(1000)),
        b"X-Long: " + b"x" * 100_000 + b"\r\n",
        b"\r\n" * 1000,
        b"Content-Encoding: gzip\r\nContent-Length: 30\r\n\r\n" + b"x" * 30,
    ],
    ids=["many", "long", "none", "packed"],
)
async def test_headers_that_no_agent_gives_are_refused(
    fetcher: Fetcher, add_peer: AddPeer, headers: bytes
) -> None:
    good = await add_peer("node-c")

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n")
        await asyncio.sleep(0.05)
        request.transport.close()
        return web.Response()

    async with evil_peer(fetcher, answer) as evil, asyncio.timeout(5):
        await fetch_from(fetcher, evil.source, good.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_a_source_whose_headers_never_end_is_left_for_the_next(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        while not request.transport.is_closing():
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(0.02)
        return web.Response()

    good = await add_peer("node-c")
    hasty = replace(fetcher, timeouts=Timeouts(headers_seconds=0.2))
    async with evil_peer(fetcher, drip) as evil, asyncio.timeout(5):
        await fetch_from(hasty, evil.source, good.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_a_source_that_ignores_where_to_go_on_is_not_believed(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    async def whole(_: web.Request) -> web.Response:
        return web.Response(body=CONTENT)

    good = await add_peer("node-c")
    partial_of(fetcher, "evil").write_bytes(CONTENT[: 2 << 20])
    async with evil_peer(fetcher, whole) as evil:
        await fetch_from(fetcher, evil.source, good.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_a_source_that_drips_is_left_for_the_next(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
        await answer.prepare(request)
        with suppress(ConnectionError):
            for at in range(1000):
                await answer.write(CONTENT[at : at + 1])
                await asyncio.sleep(0.02)
        return answer

    good = await add_peer("node-c")
    hasty = replace(fetcher, timeouts=Timeouts(rate_window_seconds=0.2))
    async with evil_peer(fetcher, drip) as evil, asyncio.timeout(5):
        await fetch_from(hasty, evil.source, good.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_a_source_that_falls_silent_is_left_for_the_next(
    fetcher: Fetcher, add_peer: AddPeer
) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
        await answer.prepare(request)
        await answer.write(CONTENT[:1000])
        await asyncio.sleep(60)
        return answer

    good = await add_peer("node-c")
    hasty = replace(fetcher, timeouts=Timeouts(silence_seconds=0.2))
    async with evil_peer(fetcher, silent) as evil, asyncio.timeout(5):
        await fetch_from(hasty, evil.source, good.source())
    fetcher.archives.check(NAME, ARCHIVE)


async def test_a_fetch_that_is_cancelled_goes_on_later(fetcher: Fetcher) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
        await answer.prepare(request)
        await answer.write(CONTENT[: 2 << 20])
        await asyncio.sleep(60)
        return answer

    async def rest(request: web.Request) -> web.StreamResponse:
        return web.Response(status=206, body=CONTENT[request.http_range.start :])

    async with evil_peer(fetcher, half) as slow:
        task = asyncio.create_task(fetch_from(fetcher, slow.source))
        partial = partial_of(fetcher, "evil")
        async with asyncio.timeout(5):
            while True:
                if partial.exists() and partial.stat().st_size >= 1 << 20:
                    break
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert partial.exists()
    assert fetcher.disk.reserved_bytes == 0
    async with evil_peer(fetcher, rest) as back:
        await fetch_from(fetcher, back.source)
    fetcher.archives.check(NAME, ARCHIVE)
    [request] = back.requests
    assert int(request.headers["Range"].removeprefix("bytes=").removesuffix("-")) >= 1 << 20


# -- strangers ------------------------------------------------------------------------------------


async def test_a_flood_of_tokens_is_no_flood_of_reviews(
    fetcher: Fetcher, add_peer: AddPeer, kubernetes: FakeKubernetes
) -> None:
    peer = await add_peer("node-b")
    await fetch_from(fetcher, peer.source())
    before = kubernetes.reviews
    statuses = [(await peer.get(token=f"made up {n}"))[0] for n in range(40)]
    assert set(statuses) == {401, 429}
    assert kubernetes.reviews - before < 10
    assert (await peer.get())[0] == 200, "who is known is not kept out"


async def test_a_bad_token_is_reviewed_and_logged_once(
    add_peer: AddPeer, kubernetes: FakeKubernetes, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await add_peer("node-b")
    for _ in range(20):
        assert (await peer.get(token="made up"))[0] == 401
    assert kubernetes.reviews == 1
    assert len(audited(caplog)) == 1


async def test_strangers_at_one_address_keep_no_agent_at_another_out() -> None:
    kubernetes = FakeKubernetes()
    kubernetes.tokens[TOKEN] = AGENT
    identities = Identities(kubernetes, AGENT.username)
    for n in range(5):
        assert await identities.of(f"made up {n}", "192.0.2.1") == (None, True)
    with pytest.raises(TooManyTokensError):
        await identities.of("one more", "192.0.2.1")
    assert await identities.of(TOKEN, "192.0.2.2") == (AGENT, True)
    assert await identities.of(TOKEN, "192.0.2.1") == (AGENT, False)


async def test_what_is_remembered_of_strangers_is_bounded_and_passes() -> None:
    now = 0.0
    kubernetes = FakeKubernetes()
    identities = Identities(kubernetes, AGENT.username, clock=lambda: now)
    for n in range(6000):
        now += 0.005
        with suppress(TooManyTokensError):
            await identities.of(f"made up {n}", f"192.0.2.{n}")
    assert kubernetes.reviews <= 100 + 30 * 10
    kubernetes.tokens["made up 5999"] = AGENT  # its node was not known to the API server yet
    now += 61
    assert (await identities.of("made up 5999", "192.0.2.5999"))[0] == AGENT


@pytest.mark.parametrize("range_", ["bytes=0-1", "bytes=-5", "bytes=9999999-", "lines=1-", "x"])
async def test_only_the_rest_from_a_byte_is_given(add_peer: AddPeer, range_: str) -> None:
    peer = await add_peer("node-b")
    headers = {"Authorization": f"Bearer {TOKEN}", REVISION_HEADER: REVISION, "Range": range_}
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{peer.server.url}/{ARCHIVE.sha256}",
            headers=headers,
            ssl=trust_only(peer.certificate.pem),
        ) as answer,
    ):
        assert answer.status == 416


# -- a certificate is replaced --------------------------------------------------------------------


async def test_a_certificate_is_replaced_without_a_failed_fetch(
    fetcher: Fetcher, add_peer: AddPeer, now: list[float]
) -> None:
    peer = await add_peer("node-b")
    first, orders = peer.certificate.pem, [peer.source()]
    for _ in range(16):
        now[0] += ROTATE_SECONDS / 7
        await asyncio.to_thread(peer.certificate.turn)
        peer.certificate.reported(peer.certificate.pem)
        orders.append(peer.source())
        # Whoever ordered a fetch ordered it not long ago.
        for order in orders[-2:]:
            await fetch_from(fetcher, order)
            fetcher.archives.remove(NAME)
    assert first not in peer.certificate.pem
    with pytest.raises(FetchError, match="another certificate"):
        await fetch_from(fetcher, orders[0])


async def test_the_next_certificate_does_not_serve_before_the_cluster_knows_it(
    fetcher: Fetcher, add_peer: AddPeer, now: list[float]
) -> None:
    peer = await add_peer("node-b")
    before = peer.source()
    now[0] += ROTATE_SECONDS
    peer.certificate.turn()
    peer.certificate.reported(before.certificate)
    now[0] += 30 * LEAD_SECONDS  # the API server is away
    peer.certificate.turn()
    await fetch_from(fetcher, before)
