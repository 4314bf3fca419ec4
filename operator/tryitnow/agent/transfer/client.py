"""Fetching an archive from another agent: resumed where it broke off, checked while it streams."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tryitnow.agent.errors import ArchiveError
from tryitnow.agent.storage.archives import CHUNK_BYTES, ArchiveName, ArchiveStore
from tryitnow.agent.storage.files import short_of_disk
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.agent.transfer.audit import REVISION_HEADER
from tryitnow.agent.transfer.certificate import UnusableCertificateError, trust_only
from tryitnow.api.archive import Archive
from tryitnow.api.definition import Definition
from tryitnow.api.meta import Key
from tryitnow.api.node import ClusterNode
from tryitnow.api.nodecheckpoint import Fetch, Source
from tryitnow.background import in_thread
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.kubernetes.objects import UnreadableObjectError
from tryitnow.metrics.instruments import Metrics
from tryitnow.metrics.node import FETCHED_BYTES
from tryitnow.settings import transfer_url

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timeouts:
    """How long a source is waited for. There is no limit on the whole: archives have gigabytes.

    Attributes:
        silence_seconds: A source that is silent for that long counts as gone, and the next one is
            asked.
        headers_seconds: How long a source may take from the connection to the end of its headers.
        least_bytes_per_second: A source that gives less is left for the next one.
        rate_window_seconds: How long it is looked at for that.

    """

    silence_seconds: float = 30.0
    headers_seconds: float = 60.0
    least_bytes_per_second: int = 64 << 10
    rate_window_seconds: float = 60.0

    @property
    def timeout(self) -> aiohttp.ClientTimeout:
        """The limits as aiohttp knows them."""
        return aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=self.silence_seconds)


_ERROR_BYTES = 200
"""Most that is read of an error's body."""

_MOST_HEADERS = 32
_HEADER_BYTES = 4096
"""Most headers of an answer, and most of one: an agent gives a dozen short ones."""


class FetchError(Exception):
    """No source gave the archive; the message lists what each of them answered."""


class _SourceError(Exception):
    """This source did not give it; another one may."""


@dataclass(frozen=True)
class Fetcher:
    """Fetches archives to this node."""

    archives: ArchiveStore
    disk: Ledger
    metrics: Metrics
    token_file: Path
    kubernetes: KubernetesApi
    transfer_port: int
    timeouts: Timeouts = Timeouts()

    async def fetch(self, name: ArchiveName, order: Fetch, definition: Definition) -> None:
        """Make the archive present on this node.

        Raises:
            FetchError: no source has it, or all of them gave something else.
            NodeShortError: the disk has no room for it, or cannot be written.

        """
        if await self._is_here(name, order.archive):
            return  # fetched before, and something else failed since
        try:
            await self._fetch(name, order, definition)
        except OSError as error:
            raise short_of_disk(error, f"fetching {name}", self.archives.directory) from error

    async def _fetch(self, name: ArchiveName, order: Fetch, definition: Definition) -> None:
        answers = []
        for source in order.sources:
            partial = self.archives.partial(name, order.archive.sha256, source.node_name)
            try:
                with self._room(name, order.archive, partial):
                    await self._fetch_from(source, partial, order.archive, name.revision)
            except _SourceError as error:
                logger.warning("fetching %s from %s: %s", name, source.node_name, error)
                answers.append(f"{source.node_name}: {error}")
                continue
            await in_thread(self.archives.adopt, name, partial)
            await in_thread(self.archives.describe, name, order.archive, definition)
            return
        msg = f"{name} could not be fetched: {'; '.join(answers) or 'no node has it'}"
        raise FetchError(msg)

    @contextmanager
    def _room(self, name: ArchiveName, archive: Archive, partial: Path) -> Iterator[None]:
        """Reserve what a download still needs.

        The longest download from another source is kept beside it while there is room: that source
        may be back for the next try.
        """
        self.archives.drop_partials(name, partial, longest=True)
        here = partial.stat().st_size if partial.exists() else 0
        missing = max(archive.size_bytes - here, 0)
        if missing > self.disk.available_bytes:
            self.archives.drop_partials(name, partial, longest=False)
        with self.disk.reserved(missing, f"fetching {name}"):
            yield

    async def _is_here(self, name: ArchiveName, archive: Archive) -> bool:
        try:
            await asyncio.to_thread(self.archives.check, name, archive)
        except ArchiveError:
            return False
        return True

    async def _fetch_from(
        self, source: Source, partial: Path, archive: Archive, revision: str
    ) -> None:
        digest, have = await asyncio.to_thread(_resume, partial, archive.size_bytes)
        resumed = have > 0
        if have < archive.size_bytes:
            await self._expect_own_address(source)
            await self._download(source, partial, archive, revision, digest, have)
        if digest.hexdigest() == archive.sha256:
            return
        # Nothing of it can be trusted.
        await in_thread(self.archives.remover.file, partial)
        if resumed:
            # The beginning is of another day, and a disk may have damaged it since: the source is
            # not to blame before it has given all of it.
            await self._fetch_from(source, partial, archive, revision)
            return
        msg = f"its archive has sha256 {digest.hexdigest()}, not {archive.sha256}; dropped"
        raise _SourceError(msg)

    async def _expect_own_address(self, source: Source) -> None:
        """Expect that a source is at an address of its Node: whoever orders may be taken over.

        Raises:
            _SourceError: it is elsewhere, or nobody knows.

        """
        try:
            node = await self.kubernetes.get(ClusterNode, Key("", source.node_name))
        except (KubernetesError, UnreadableObjectError) as error:
            msg = f"the address of its Node is not known: {error}"
            raise _SourceError(msg) from error
        own = {transfer_url(address, self.transfer_port) for address in node.addresses}
        if source.url not in own:
            msg = (
                f"{source.url} is not at an address of its Node ({', '.join(node.addresses)}) and "
                f"port {self.transfer_port}"
            )
            raise _SourceError(msg)

    async def _download(
        self,
        source: Source,
        partial: Path,
        archive: Archive,
        revision: str,
        digest: hashlib._Hash,
        have: int,
    ) -> None:
        headers = {"Authorization": f"Bearer {await self._token()}", REVISION_HEADER: revision}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            trust = trust_only(source.certificate)
        except UnusableCertificateError as error:
            raise _SourceError(str(error)) from error
        url = f"{source.url}/{archive.sha256}"
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=self.timeouts.timeout,
                    auto_decompress=False,  # few bytes could become many
                    max_line_size=_HEADER_BYTES,
                    max_field_size=_HEADER_BYTES,
                    max_headers=_MOST_HEADERS,
                ) as session,
                AsyncExitStack() as opened,
            ):
                async with asyncio.timeout(self.timeouts.headers_seconds):
                    # A redirect could lead into this node's own network.
                    asked = session.get(url, headers=headers, ssl=trust, allow_redirects=False)
                    answer = await opened.enter_async_context(asked)
                    await _expect_status(answer, 206 if have else 200)
                have = await self._receive(answer, partial, archive, digest, have)
        except aiohttp.ClientConnectorCertificateError as error:
            msg = (
                "it shows another certificate than its agent published: the agent was started "
                "again, or another program listens there"
            )
            raise _SourceError(msg) from error
        except aiohttp.ClientConnectorError as error:
            msg = (
                f"its agent does not listen at {source.url} ({error.os_error}): it may be starting"
            )
            raise _SourceError(msg) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            msg = f"the connection broke after {have} bytes: {type(error).__name__} {error}"
            raise _SourceError(msg) from error
        if have != archive.size_bytes:
            await in_thread(self.archives.remover.file, partial)
            msg = f"it gave {have} bytes or more, not {archive.size_bytes}"
            raise _SourceError(msg)

    async def _token(self) -> str:
        try:
            return (await asyncio.to_thread(self.token_file.read_text)).strip()
        except OSError as error:
            # No error of the disk: nobody has mounted it.
            msg = f"this agent has no token for its peers: {error}; see TRANSFER_TOKEN_FILE"
            raise FetchError(msg) from error

    async def _receive(
        self,
        answer: aiohttp.ClientResponse,
        partial: Path,
        archive: Archive,
        digest: hashlib._Hash,
        have: int,
    ) -> int:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        since, then = time.monotonic(), have
        try:
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                have += len(chunk)
                self.metrics.count(FETCHED_BYTES, len(chunk))
                if have > archive.size_bytes:
                    break
                await in_thread(_append, handle, digest, chunk)
                if (took := time.monotonic() - since) > self.timeouts.rate_window_seconds:
                    if have - then < self.timeouts.least_bytes_per_second * took:
                        msg = f"it gave only {have - then} bytes in {took:.0f} s"
                        raise _SourceError(msg)
                    since, then = time.monotonic(), have
        finally:
            os.close(handle)
        return have


async def _expect_status(answer: aiohttp.ClientResponse, status: int) -> None:
    if answer.status != status:
        text = (await answer.content.read(_ERROR_BYTES)).decode(errors="replace")
        msg = f"it answered {answer.status}: {text.strip()}"
        raise _SourceError(msg)


def _append(handle: int, digest: hashlib._Hash, chunk: bytes) -> None:
    digest.update(chunk)
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]


def _resume(partial: Path, size_bytes: int) -> tuple[hashlib._Hash, int]:
    """Digest what an earlier try left; a file that is too long is dropped."""
    digest = hashlib.sha256()
    if not partial.exists():
        return digest, 0
    if partial.stat().st_size > size_bytes:
        partial.unlink()
        return digest, 0
    with partial.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
        return digest, file.tell()
