"""Reading an exported archive apart: its bytes checked, its files laid out as Podman packed them.

GNU tar does the unpacking: it keeps owners, modes, extended attributes, hard links and holes, and
follows no link out of the directory. Blocking.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import zstandard

from tryitnow.api.checkpoint import Compression

CHECKPOINT = "checkpoint"
"""CRIU's images, as Podman names the directory in an export (checkpointctl's ``metadata.go``)."""

DEV_SHM = "devshm-checkpoint.tar"
ROOT_FS_DIFF = "rootfs-diff.tar"
DELETED_FILES = "deleted.files"
"""The other parts of an export that a restore needs."""


_PIECE_BYTES = 32 << 10
"""What is decompressed at once: memory pages compress 25 to 1."""


class UnpackError(Exception):
    """The archive cannot be unpacked; the message is tar's own, or says what is missing."""


def unpack(chunks: Iterator[bytes], compression: Compression, directory: Path) -> None:
    """Unpack an archive into a directory.

    Raises:
        UnpackError: it is no tar, or tar could not write it (a full disk).
        ArchiveError: from ``chunks``.

    """
    _extract(_plain(chunks) if compression is Compression.ZSTD else chunks, directory)


def extract(plain: Path, directory: Path) -> None:
    """Unpack a plain tar over what is in a directory: a container's changes over its image's files.

    Raises:
        UnpackError: tar could not write it.

    """
    with plain.open("rb") as file:
        _extract(iter(lambda: file.read(1 << 20), b""), directory)


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
        said = complaints.read().decode(errors="replace").strip()
    if tar.returncode != 0:
        msg = f"tar could not unpack into {directory}: {said[-500:]}"
        raise UnpackError(msg)


def _plain(chunks: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), _PIECE_BYTES):
                yield decompressor.decompress(chunk[start : start + _PIECE_BYTES])
    except zstandard.ZstdError as error:
        msg = f"the archive is no zstd stream: {error}"
        raise UnpackError(msg) from error
