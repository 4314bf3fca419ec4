"""Archives from agent to agent: several nodes in one process, real TLS, real files.

The one fake is the API server's TokenReview (``FakeKubernetes.tokens``).
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

from tests.unit.builders import make_archive, make_blueprint, make_copy
from tests.unit.fakes import FakeKubernetes, FakePodman
from tryitnow.agent.archive import ArchiveMissingError, ArchiveStore
from tryitnow.agent.certificate import ServerCertificate, make_certificate, trust_only
from tryitnow.agent.fetch import FetchError, fetch
from tryitnow.agent.node import Node
from tryitnow.agent.ports import PortRange
from tryitnow.agent.prepared import DataStore
from tryitnow.agent.restore import archive_name
from tryitnow.agent.serve import TransferServer
from tryitnow.agent.volumes import VolumeStore
from tryitnow.api.checkpoint import Compression, CRIUOptions
from tryitnow.api.nodecheckpoint import Fetch, NodeCheckpointPhase, Source
from tryitnow.kubernetes.client import TokenIdentity

CONTENT = os.urandom(3 << 20)
ARCHIVE = make_archive(CONTENT)
BLUEPRINT = make_blueprint(criu=CRIUOptions(compression=Compression.NONE))
NAME = archive_name(make_copy(blueprint=BLUEPRINT))

TOKEN = "token of an agent"
AGENT = TokenIdentity("system:serviceaccount:tryitnow-system:tryitnow-agent")


@dataclass(frozen=True)
class Peer:
    """Another node, which holds the archive and serves it."""

    node: Node
    server: TransferServer
    certificate: ServerCertificate

    @property
    def file(self) -> Path:
        return self.node.archives.path(NAME)

    def source(self, **changes: str) -> Source:
        whole = {
            "node_name": self.node.name,
            "url": self.server.url,
            "certificate": self.certificate.pem,
        }
        return Source(**{**whole, **changes})

    def damage(self, at: int) -> None:
        with self.file.open("r+b") as file:
            file.seek(at)
            file.write(bytes([CONTENT[at] ^ 1]))

    async def get(self, *, token: str = TOKEN, sha256: str = ARCHIVE.sha256) -> tuple[int, str]:
        """Ask it as an agent would; return status and text."""
        trust = trust_only(self.certificate.pem)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self.server.url}/{sha256}"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers=headers, ssl=trust) as answer,
        ):
            return answer.status, (await answer.read())[:200].decode(errors="replace")


AddPeer = Callable[[str], Awaitable[Peer]]


@pytest.fixture
async def add_peer(
    node: Node, tmp_path: Path, kubernetes: FakeKubernetes
) -> AsyncIterator[AddPeer]:
    kubernetes.tokens[TOKEN] = AGENT
    async with AsyncExitStack() as stack:

        async def add(name: str) -> Peer:
            address = f"127.77.1.{ord(name[-1])}"
            settings = replace(
                node.settings,
                node_name=name,
                node_address=address,
                transfer_port=_free_port(address),
            )
            archives = ArchiveStore(tmp_path / name)
            archives.open()
            archives.path(NAME).write_bytes(CONTENT)
            peer_node = Node(
                settings=settings,
                kubernetes=kubernetes,
                podman=FakePodman(address, tmp_path / "containers"),
                archives=archives,
                data=DataStore(tmp_path / f"{name}-data"),
                volumes=VolumeStore(tmp_path / f"{name}-volumes"),
                ports=PortRange(1, 1),
                http=node.http,
            )
            peer_node.copies.update(make_copy(name, blueprint=BLUEPRINT, archive=ARCHIVE))
            certificate = make_certificate(address)
            server = TransferServer(peer_node)
            runner = await server.start(certificate)
            stack.push_async_callback(runner.cleanup)
            return Peer(peer_node, server, certificate)

        yield add


def _free_port(address: str) -> int:
    with socket.socket() as listener:
        listener.bind((address, 0))
        port: int = listener.getsockname()[1]
        return port


async def fetch_from(node: Node, *sources: Source) -> None:
    await fetch(node, NAME, Fetch(archive=ARCHIVE, sources=sources), BLUEPRINT)


def assert_nothing_kept(node: Node) -> None:
    assert node.archives.names() == set()


def partial_of(node: Node) -> Path:
    return node.archives.partial(NAME, ARCHIVE.sha256)


# -- the good way ---------------------------------------------------------------------------------


async def test_an_archive_is_copied_to_the_byte(node: Node, add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    await fetch_from(node, peer.source())
    node.archives.check(NAME, ARCHIVE)
    assert node.archives.path(NAME).stat().st_mode & 0o777 == 0o600
    assert node.archives.names() == {str(NAME), f"{NAME.stem}.md"}


async def test_a_download_goes_on_where_it_broke_off(node: Node, add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    partial_of(node).write_bytes(CONTENT[: 2 << 20])
    peer.damage(1000)  # a byte that is here already, and so is not asked for again
    await fetch_from(node, peer.source())
    node.archives.check(NAME, ARCHIVE)


async def test_another_source_goes_on_where_the_first_broke_off(
    node: Node, add_peer: AddPeer
) -> None:
    gone, peer = await add_peer("node-b"), await add_peer("node-c")
    gone.file.unlink()
    partial_of(node).write_bytes(CONTENT[: 2 << 20])
    peer.damage(1000)
    await fetch_from(node, gone.source(), peer.source())
    node.archives.check(NAME, ARCHIVE)


async def test_a_complete_download_is_not_asked_for_again(node: Node, add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    partial_of(node).write_bytes(CONTENT)
    peer.file.unlink()
    await fetch_from(node, peer.source())
    node.archives.check(NAME, ARCHIVE)


async def test_an_archive_that_is_here_is_not_fetched_again(node: Node, add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    await fetch_from(node, peer.source())
    peer.file.unlink()
    await fetch_from(node, peer.source())
    node.archives.path(NAME).write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(FetchError):
        await fetch_from(node, peer.source())


async def test_a_download_that_is_too_long_starts_anew(node: Node, add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    partial_of(node).write_bytes(CONTENT + b"more")
    await fetch_from(node, peer.source())
    node.archives.check(NAME, ARCHIVE)


# -- what sources give is not believed ------------------------------------------------------------


async def test_a_damaged_source_is_dropped_and_the_next_is_asked(
    node: Node, add_peer: AddPeer
) -> None:
    damaged, good = await add_peer("node-b"), await add_peer("node-c")
    damaged.damage(2_000_000)
    await fetch_from(node, damaged.source(), good.source())
    node.archives.check(NAME, ARCHIVE)


async def test_of_a_damaged_source_alone_nothing_is_kept(node: Node, add_peer: AddPeer) -> None:
    damaged = await add_peer("node-b")
    damaged.damage(2_000_000)
    with pytest.raises(FetchError, match=r"node-b: what it gave has sha256 .*; dropped"):
        await fetch_from(node, damaged.source())
    assert_nothing_kept(node)


async def test_a_damaged_first_half_from_before_is_dropped_as_well(
    node: Node, add_peer: AddPeer
) -> None:
    one, two = await add_peer("node-b"), await add_peer("node-c")
    partial_of(node).write_bytes(b"\0" * (2 << 20))
    await fetch_from(node, one.source(), two.source())
    node.archives.check(NAME, ARCHIVE)


@pytest.mark.parametrize("size", [0, 1_000_000, len(CONTENT) - 1, len(CONTENT) + 1])
async def test_a_source_of_the_wrong_length_is_passed_over(
    node: Node, add_peer: AddPeer, size: int
) -> None:
    wrong, good = await add_peer("node-b"), await add_peer("node-c")
    os.truncate(wrong.file, size)
    await fetch_from(node, wrong.source(), good.source())
    node.archives.check(NAME, ARCHIVE)


async def test_a_download_that_a_shorter_source_cannot_continue_is_not_lost(
    node: Node, add_peer: AddPeer
) -> None:
    short, good = await add_peer("node-b"), await add_peer("node-c")
    os.truncate(short.file, 1_000_000)
    partial_of(node).write_bytes(CONTENT[: 2 << 20])
    good.damage(1000)
    await fetch_from(node, short.source(), good.source())
    node.archives.check(NAME, ARCHIVE)


async def test_a_source_that_is_away_is_passed_over(node: Node, add_peer: AddPeer) -> None:
    good = await add_peer("node-c")
    port = _free_port("127.77.1.99")
    away = good.source(node_name="node-b", url=f"https://127.77.1.99:{port}/archives")
    await fetch_from(node, away, good.source())
    node.archives.check(NAME, ARCHIVE)


async def test_when_all_fail_each_says_why(node: Node, add_peer: AddPeer) -> None:
    gone, damaged = await add_peer("node-b"), await add_peer("node-c")
    gone.file.unlink()
    damaged.damage(0)
    with pytest.raises(FetchError) as caught:
        await fetch_from(node, gone.source(), damaged.source())
    said = str(caught.value)
    assert f"{NAME} could not be fetched" in said
    assert "node-b: it answered 404: node-b holds no good archive" in said
    assert "node-c: what it gave has sha256" in said


async def test_without_sources_it_says_so(node: Node) -> None:
    with pytest.raises(FetchError, match="no node has it"):
        await fetch_from(node)


# -- who is believed, and who may ask -------------------------------------------------------------


async def test_the_certificate_of_another_agent_is_refused(node: Node, add_peer: AddPeer) -> None:
    peer, other = await add_peer("node-b"), await add_peer("node-c")
    impostor = peer.source(certificate=other.certificate.pem)
    with pytest.raises(FetchError, match=r"node-b: the connection broke.*Certificate"):
        await fetch_from(node, impostor)
    assert_nothing_kept(node)


async def test_a_certificate_for_another_address_is_refused(node: Node, add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    lured = peer.source(url=peer.server.url.replace(peer.node.settings.node_address, "localhost"))
    with pytest.raises(FetchError):
        await fetch_from(node, lured)
    assert_nothing_kept(node)


async def test_a_source_with_an_unreadable_certificate_is_passed_over(
    node: Node, add_peer: AddPeer
) -> None:
    peer, good = await add_peer("node-b"), await add_peer("node-c")
    await fetch_from(node, peer.source(certificate="no certificate"), good.source())
    node.archives.check(NAME, ARCHIVE)


async def test_a_source_without_a_certificate_is_passed_over(node: Node, add_peer: AddPeer) -> None:
    peer, good = await add_peer("node-b"), await add_peer("node-c")
    await fetch_from(node, peer.source(certificate=""), good.source())
    node.archives.check(NAME, ARCHIVE)


async def test_a_source_without_a_certificate_is_named(node: Node, add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    with pytest.raises(FetchError, match="node-b: it has published no usable certificate"):
        await fetch_from(node, peer.source(certificate=""))


async def test_the_token_of_somebody_else_is_refused(
    node: Node, add_peer: AddPeer, kubernetes: FakeKubernetes
) -> None:
    peer = await add_peer("node-b")
    kubernetes.tokens[TOKEN] = TokenIdentity("system:serviceaccount:default:default")
    with pytest.raises(FetchError, match="node-b: it answered 401"):
        await fetch_from(node, peer.source())
    assert_nothing_kept(node)


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
    assert kubernetes.reviews == 3, "a refusal is never remembered"


async def test_a_token_that_cannot_be_reviewed_is_not_refused_but_asked_to_wait(
    add_peer: AddPeer, kubernetes: FakeKubernetes
) -> None:
    peer = await add_peer("node-b")
    kubernetes.is_down = True
    status, text = await peer.get()
    assert status == 503
    assert "cannot review the token" in text


async def test_only_good_copies_are_served(add_peer: AddPeer) -> None:
    peer = await add_peer("node-b")
    assert (await peer.get(sha256="0" * 64))[0] == 404
    assert (await peer.get(sha256="..%2Fdefault_shop.md"))[0] == 404
    quarantined = make_copy(
        "node-b", blueprint=BLUEPRINT, archive=ARCHIVE, phase=NodeCheckpointPhase.QUARANTINED
    )
    peer.node.copies.update(quarantined)
    status, text = await peer.get()
    assert status == 404
    assert "node-b holds no good archive" in text


async def test_the_url_of_an_ipv6_node_can_be_asked(node: Node) -> None:
    settings = replace(node.settings, node_address="2001:db8::1", transfer_port=9443)
    url = TransferServer(replace(node, settings=settings)).url
    assert url == "https://[2001:db8::1]:9443/archives"


# -- room -----------------------------------------------------------------------------------------


async def test_a_full_disk_is_said_before_anything_is_fetched(
    node: Node, add_peer: AddPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = await add_peer("node-b")
    monkeypatch.setattr(node.archives, "free_bytes", lambda: len(CONTENT) - 1)
    with pytest.raises(FetchError, match=r"needs 3 MiB more and .* only 2 MiB free; make room"):
        await fetch_from(node, peer.source())
    assert_nothing_kept(node)


async def test_a_download_that_goes_on_needs_room_for_the_rest_only(
    node: Node, add_peer: AddPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = await add_peer("node-b")
    partial_of(node).write_bytes(CONTENT[: 2 << 20])
    monkeypatch.setattr(node.archives, "free_bytes", lambda: 1 << 20)
    await fetch_from(node, peer.source())
    node.archives.check(NAME, ARCHIVE)


async def test_an_archive_that_was_not_fetched_is_missing(node: Node) -> None:
    with pytest.raises(ArchiveMissingError):
        node.archives.check(NAME, ARCHIVE)
