"""Copying an archive from another agent: resumed where it broke off, checked while it streams."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from pathlib import Path

import aiohttp

from tryitnow.agent.archive import CHUNK_BYTES, ArchiveError, ArchiveName
from tryitnow.agent.certificate import UnusableCertificateError, trust_only
from tryitnow.agent.node import Node
from tryitnow.api.checkpoint import Archive, Blueprint
from tryitnow.api.nodecheckpoint import Fetch, Source
from tryitnow.background import in_thread
from tryitnow.metrics.node import FETCHED_BYTES

logger = logging.getLogger(__name__)

TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30)
"""No limit on the whole: archives have gigabytes. A peer that is silent for 30 s counts as gone,
and the next source continues from the same byte."""


class FetchError(Exception):
    """No source gave the archive; the message lists what each of them said."""


class _SourceError(Exception):
    """This source did not give it; another one may."""


async def fetch(node: Node, name: ArchiveName, order: Fetch, blueprint: Blueprint) -> None:
    """Make the archive present on this node.

    Raises:
        FetchError: no source has it, or all of them gave something else.
        OSError: it cannot be written here.

    """
    if await _is_here(node, name, order.archive):
        return  # fetched before, and something else failed since
    partial = node.archives.partial(name, order.archive.sha256)
    _check_room(node, name, partial, order.archive)
    said = []
    for source in order.sources:
        try:
            await _fetch_from(node, source, partial, order.archive)
        except _SourceError as error:
            logger.warning("fetching %s from %s: %s", name, source.node_name, error)
            said.append(f"{source.node_name}: {error}")
            continue
        await in_thread(node.archives.adopt, name, partial)
        await in_thread(node.archives.describe, name, order.archive, blueprint)
        return
    msg = f"{name} could not be fetched: {'; '.join(said) or 'no node has it'}"
    raise FetchError(msg)


async def _is_here(node: Node, name: ArchiveName, archive: Archive) -> bool:
    try:
        await node.read_through(name, archive)
    except ArchiveError:
        return False
    return True


def _check_room(node: Node, name: ArchiveName, partial: Path, archive: Archive) -> None:
    here = partial.stat().st_size if partial.exists() else 0
    free = node.archives.free_bytes()
    if here + free < archive.size_bytes:
        msg = (
            f"{name} needs {(archive.size_bytes - here) >> 20} MiB more and "
            f"{node.archives.directory} has only {free >> 20} MiB free; make room there or "
            "exclude the node by spec.distribution.nodeSelector"
        )
        raise FetchError(msg)


async def _fetch_from(node: Node, source: Source, partial: Path, archive: Archive) -> None:
    digest, have = await asyncio.to_thread(_resume, partial, archive.size_bytes)
    if have < archive.size_bytes:
        await _download(node, source, partial, archive, digest, have)
    if digest.hexdigest() != archive.sha256:
        # Nothing of it can be trusted: the next source starts from nothing.
        partial.unlink(missing_ok=True)
        msg = f"what it gave has sha256 {digest.hexdigest()}, not {archive.sha256}; dropped"
        raise _SourceError(msg)


async def _download(
    node: Node,
    source: Source,
    partial: Path,
    archive: Archive,
    digest: hashlib._Hash,
    have: int,
) -> None:
    token = (await asyncio.to_thread(node.settings.transfer_token_file.read_text)).strip()
    headers = {"Authorization": f"Bearer {token}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        trust = trust_only(source.certificate)
    except UnusableCertificateError as error:
        raise _SourceError(str(error)) from error
    url = f"{source.url}/{archive.sha256}"
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.get(url, headers=headers, ssl=trust) as answer,
        ):
            if answer.status != (206 if have else 200):
                said = (await answer.text())[:200].strip()
                msg = f"it answered {answer.status}: {said}"
                raise _SourceError(msg)
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            try:
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    have += len(chunk)
                    node.metrics.count(FETCHED_BYTES, len(chunk))
                    if have > archive.size_bytes:
                        break
                    await in_thread(_append, handle, digest, chunk)
            finally:
                os.close(handle)
    except (aiohttp.ClientError, TimeoutError) as error:
        msg = f"the connection broke after {have} bytes: {type(error).__name__} {error}"
        raise _SourceError(msg) from error
    if have != archive.size_bytes:
        partial.unlink(missing_ok=True)
        msg = f"it gave {have} bytes or more, not {archive.size_bytes}"
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
