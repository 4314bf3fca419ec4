"""Archives on the node's disk: written whole or not at all, and never read unchecked.

Each ``<namespace>_<checkpoint>_<identity>.tar[.zst]`` has a ``.md`` beside it that tells a person
what it is and how to restore it by hand. Files are 0600 in a 0700 directory: an archive holds the
application's memory, secrets included.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import yaml
import zstandard

from tryitnow.agent.errors import ArchiveMissingError, DigestMismatchError
from tryitnow.agent.storage.by_hand import by_hand
from tryitnow.agent.storage.files import free_bytes, sync_directory, write_whole
from tryitnow.agent.storage.wipe import Remover
from tryitnow.api.archive import Archive
from tryitnow.api.definition import Compression, Definition
from tryitnow.api.meta import Key

CHUNK_BYTES = 1 << 20

Signature = tuple[int, int, int, int]
"""What changes when a file does, found without reading it: inode, size, mtime, ctime (in ns)."""

_PARTIAL = ".partial"


@dataclass(frozen=True)
class Written:
    """What was written to disk."""

    sha256: str
    size_bytes: int


_LONGEST_STEM = 200
"""Characters: a file name may have 255, and endings such as ``.tar.zst.<digits>.partial``
follow."""


@dataclass(frozen=True)
class ArchiveName:
    """Whose archive it is: one file for each revision of a Checkpoint."""

    checkpoint: Key
    revision: str
    """Identity of the revision."""

    compression: Compression

    def __str__(self) -> str:
        return f"{self.stem}.tar{'.zst' if self.compression is Compression.ZSTD else ''}"

    @property
    def stem(self) -> str:
        """The name without its ending; the metadata's name begins with it."""
        owner = f"{self.checkpoint.namespace}_{self.checkpoint.name}"
        # The identity alone is unique; the rest is for people.
        return f"{owner[: _LONGEST_STEM - len(self.revision) - 1]}_{self.revision}"


class ArchiveStore:
    """The directory of archives (``CHECKPOINT_PATH``)."""

    def __init__(self, directory: Path, remover: Remover | None = None) -> None:
        self.directory = directory
        self.remover = remover or Remover()

    def open(self) -> None:
        """Make the directory, private to root, and clear what an interrupted write left.

        Partial downloads stay: they are resumed.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        for leftover in self.directory.glob(".*.new"):
            self.remover.file(leftover)

    def path(self, name: ArchiveName) -> Path:
        """Return where an archive lies or would lie."""
        return self.directory / str(name)

    def partial(self, name: ArchiveName, sha256: str, source: str) -> Path:
        """Return where a download gathers: one file for each archive and each node that gives it.

        What one node gave wrong spoils nothing that another one gives.
        """
        whose = hashlib.sha256(f"{sha256} {source}".encode()).hexdigest()[:16]
        return self.directory / f".{name}.{whose}{_PARTIAL}"

    def drop_partials(self, name: ArchiveName, keep: Path, *, longest: bool) -> None:
        """Remove the downloads of an archive but one, and the longest of the others if told so."""
        others = [path for path in self._partials(name) if path != keep]
        others.sort(key=lambda path: path.stat().st_size)
        for path in others[: len(others) - longest]:
            self.remover.file(path)

    def names(self) -> set[str]:
        """Return the names of all files that belong to archives."""
        return {p.name for p in self.directory.iterdir() if p.is_file()}

    def write(self, name: ArchiveName, chunks: Iterator[bytes]) -> Written:
        """Write an archive from a plain tar, compressing it on the way. Blocking.

        Raises:
            OSError: the disk is full or broken; nothing is left behind.

        """
        target = self.path(name)
        temporary = self.directory / f".{name}.new"
        try:
            with _private(temporary) as file:
                sink = _HashingWriter(file)
                if name.compression is Compression.ZSTD:
                    # Level 1: 25 times smaller already (319 MB to 12 MB), and never the bottleneck.
                    compressor = zstandard.ZstdCompressor(level=1, threads=-1)
                    frames = compressor.compressobj()
                    for chunk in chunks:
                        sink.write(frames.compress(chunk))
                    sink.write(frames.flush())
                else:
                    for chunk in chunks:
                        sink.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            self.remover.replace(temporary, target)
            sync_directory(self.directory)
        except BaseException:
            self.remover.file(temporary)
            raise
        return Written(sink.sha256.hexdigest(), sink.size)

    def adopt(self, name: ArchiveName, partial: Path) -> None:
        """Make a complete, checked download the archive."""
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        self.remover.replace(partial, self.path(name))
        sync_directory(self.directory)
        self.drop_partials(name, partial, longest=False)

    def describe(self, name: ArchiveName, archive: Archive, definition: Definition) -> None:
        """Write the ``.md`` beside an archive."""
        text = _metadata(name, archive, definition)
        write_whole(self.directory / f"{name.stem}.md", text.encode())

    def read(self, name: ArchiveName, archive: Archive) -> Iterator[bytes]:
        """Give an archive's bytes, the last of them only when all were right. Blocking.

        A reader that needs the whole archive cannot complete on a damaged one, and the file is
        read only once.

        Raises:
            ArchiveMissingError: there is no such file.
            DigestMismatchError: it has another digest, or the disk cannot read it.

        """
        path = self.path(name)
        digest = hashlib.sha256()
        held = b""
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
                    if held:
                        yield held
                    held = chunk
        except FileNotFoundError as error:
            msg = f"{path} is missing"
            raise ArchiveMissingError(msg) from error
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            msg = f"the disk cannot read {path}: {error}"
            raise DigestMismatchError(msg) from error
        if digest.hexdigest() != archive.sha256:
            msg = f"{path} has sha256 {digest.hexdigest()}, not {archive.sha256}"
            raise DigestMismatchError(msg)
        yield held

    def check(self, name: ArchiveName, archive: Archive) -> None:
        """Read an archive through. Blocking.

        Raises:
            ArchiveMissingError: there is no such file.
            DigestMismatchError: it has another digest.

        """
        for _ in self.read(name, archive):
            pass

    def signature(self, name: ArchiveName) -> Signature | None:
        """Return what tells whether an archive was touched; None when it is missing."""
        try:
            found = self.path(name).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def remove(self, name: ArchiveName) -> None:
        """Remove an archive, its metadata and its partial downloads."""
        self.remover.file(self.path(name))
        (self.directory / f"{name.stem}.md").unlink(missing_ok=True)
        for partial in self._partials(name):
            self.remover.file(partial)

    def _partials(self, name: ArchiveName) -> list[Path]:
        return list(self.directory.glob(f".{name}.*{_PARTIAL}"))

    def free_bytes(self) -> int:
        """Return the free space of the file system."""
        return free_bytes(self.directory)


class _HashingWriter:
    """Passes bytes on to a file and keeps their digest and number."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.sha256.update(data)
        self.size += len(data)


def _private(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _metadata(name: ArchiveName, archive: Archive, definition: Definition) -> str:
    image, _, digest = archive.image.partition("@")
    facts = {
        "checkpoint": str(name.checkpoint),
        "revision": name.revision,
        "image": image,
        "image_digest": digest or image,
        "created": archive.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "criu_version": archive.versions.criu,
        "podman_version": archive.versions.podman,
        "runtime": archive.versions.runtime,
        "kernel": archive.versions.kernel,
        "sha256": archive.sha256,
        "size_bytes": archive.size_bytes,
    }
    if archive.images:
        facts["images"] = dict(archive.images)
    return (
        f"---\n{yaml.safe_dump(facts, sort_keys=False)}---\n\n"
        f"A checkpoint of {name.checkpoint}, made by try-it-now.\n\n"
        f"{by_hand(str(name), definition, in_parts=is_bundle(definition))}\n"
        "It holds the memory of the running application, secrets included: keep it private.\n"
    )


def is_bundle(definition: Definition) -> bool:
    """Whether the archive is a tar of several tars; otherwise it is Podman's export itself."""
    return len(definition.template.members) > 1 or bool(definition.template.volumes)
