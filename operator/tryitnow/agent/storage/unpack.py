"""Reading an exported archive apart: its bytes checked, its files laid out as Podman packed them.

GNU tar does the unpacking: it keeps owners, modes, extended attributes, hard links and holes, and
follows no link that the tar brings along. Those that lie there before are ``_clear_the_way``'s.
Blocking.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import zstandard

from tryitnow.agent.errors import UnpackError
from tryitnow.agent.storage.files import remove_tree
from tryitnow.api.definition import Compression

CHECKPOINT = "checkpoint"
"""CRIU's images, as Podman names the directory in an export (checkpointctl's ``metadata.go``)."""

DEV_SHM = "devshm-checkpoint.tar"
ROOT_FS_DIFF = "rootfs-diff.tar"
DELETED_FILES = "deleted.files"
HOSTS = "tryitnow-hosts"
"""The other parts of an export that a restore needs; the last one is ours: /etc/hosts as the
application left it."""


_PIECE_BYTES = 1 << 20
"""Most that is decompressed at once."""


def unpack(chunks: Iterator[bytes], compression: Compression, directory: Path) -> None:
    """Unpack an archive into a directory.

    Raises:
        UnpackError: it is no tar, or tar could not write it (a full disk).
        ArchiveError: from ``chunks``.

    """
    try:
        _extract(_plain(chunks) if compression is Compression.ZSTD else chunks, directory)
    except UnpackError:
        # Damage breaks it anywhere: only the digest, at the end, tells whether it is the archive's.
        for _ in chunks:
            pass
        raise


def extract(plain: Path, directory: Path) -> None:
    """Unpack a plain tar over what is in a directory: a container's changes over its image's files.

    Raises:
        UnpackError: tar could not write it, or it names what lies outside.

    """
    _clear_the_way(plain, directory)
    with plain.open("rb") as file:
        _extract(iter(lambda: file.read(1 << 20), b""), directory)


def is_new_dev_shm(plain: Path) -> bool:
    """Whether a tar has nothing but the directory that every /dev/shm is at first. Blocking."""
    try:
        with tarfile.open(plain, "r:") as tar:
            root, other = tar.next(), tar.next()
    except tarfile.TarError:
        return False  # what is wrong with it is Podman's to say, when it reads it
    return (
        root is not None
        and other is None
        and root.isdir()
        and (root.mode, root.uid, root.gid, root.pax_headers) == (0o1777, 0, 0, {})
    )


def _clear_the_way(plain: Path, directory: Path) -> None:
    """Take away whatever stands in the directory where the tar has something of another kind.

    An image may have a link where the container had put a directory before the checkpoint, and
    a tar of changes need not tell of it. GNU tar would follow the link, be it out of the directory.
    """
    cleared: set[Path] = set()
    try:
        with tarfile.open(plain, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would remember them all
                names = [member.name, member.linkname] if member.islnk() else [member.name]
                for name in names:
                    _clear_parents(directory, PurePosixPath(name.lstrip("/")), cleared)
                path = directory / member.name.lstrip("/")
                if not member.isdir() and path.is_dir() and not path.is_symlink():
                    remove_tree(path)  # tar itself takes away empty ones only
            _expect_end(plain, tar.offset)
    except tarfile.TarError as error:
        msg = f"{plain.name} is no tar: {error}"
        raise UnpackError(msg) from error


def _expect_end(plain: Path, offset: int) -> None:
    """See that nothing follows where Python's reader stopped.

    Python ends quietly at a bad header, and GNU tar goes on behind it: what the one has not looked
    at, the other would unpack.

    Raises:
        UnpackError: there is something.

    """
    with plain.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(1 << 20):
            if chunk.strip(b"\0"):
                msg = f"{plain.name} is no whole tar: its end is not where its last file ends"
                raise UnpackError(msg)


def _clear_parents(directory: Path, name: PurePosixPath, cleared: set[Path]) -> None:
    if ".." in name.parts:
        msg = f"a member of the tar, {str(name)!r}, lies outside"
        raise UnpackError(msg)
    path = directory
    for part in name.parts[:-1]:
        path /= part  # all before it are known to be no links
        if path in cleared:
            continue
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            path.unlink()
        cleared.add(path)


def _extract(chunks: Iterator[bytes], directory: Path) -> None:
    argv = [
        "tar", "--extract", "--file=-", f"--directory={directory}", "--numeric-owner",
        "--same-owner", "--same-permissions", "--xattrs", "--xattrs-include=*",
        "--warning=no-timestamp",
    ]  # fmt: skip
    # Complaints go to a file: tar would stop at a full pipe while we wait for it to read.
    with tempfile.TemporaryFile() as complaints:
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=complaints) as tar:
            assert tar.stdin is not None
            try:
                # A BrokenPipeError means that tar has ended, and says why.
                with contextlib.suppress(BrokenPipeError), tar.stdin:
                    for chunk in chunks:
                        tar.stdin.write(chunk)
            except BaseException:
                tar.kill()
                raise
        complaints.seek(0)
        message = complaints.read().decode(errors="replace").strip()
    if tar.returncode != 0:
        msg = f"tar could not unpack into {directory}: {message[-500:]}"
        raise UnpackError(msg)


def _plain(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress, in pieces of bounded size: 32 KiB of zstd may hold a GiB of zeros."""
    source = _Chunks(chunks)
    try:
        with zstandard.ZstdDecompressor().stream_reader(
            io.BufferedReader(source), read_across_frames=True
        ) as reader:
            while piece := reader.read(_PIECE_BYTES):
                yield piece
    except zstandard.ZstdError as error:
        msg = f"the archive is no zstd stream: {error}"
        raise UnpackError(msg) from error


class _Chunks(io.RawIOBase):
    """An iterator of chunks as a file to read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a writable buffer has no type in 3.11
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        part = self._rest[: len(buffer)]
        buffer[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)
