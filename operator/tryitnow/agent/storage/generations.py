"""What lies unpacked on the node for restores of a revision, one directory for each unpacking.

``data/<archive>/<n>/<container>/checkpoint``: CRIU's images, unpacked once, read by every restore.
``data/<archive>/<n>/<container>/devshm-checkpoint.tar``: content of /dev/shm, where there was some.
``data/<archive>/<n>/<container>/tryitnow-hosts``: /etc/hosts as the application left it.
``data/<archive>/<n>/.volumes/<volume>``: content of volumes, copied for every restore.
``data/<archive>/<n>/generation.json``: what it was made from, and a fingerprint of the files.

Whoever restores holds a lease. A generation that was replaced is deleted when nobody holds one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tryitnow.agent.storage.files import (
    sync_directory,
    sync_file_system,
    write_whole,
)
from tryitnow.agent.storage.unpack import CHECKPOINT, DEV_SHM, HOSTS
from tryitnow.agent.storage.wipe import Remover

REPOSITORY = "localhost/tryitnow/prepared"
"""Images of ours: each is the root file system of one container at the checkpoint."""

CHECKPOINTED_VOLUMES = ".volumes"
"""No container can be called so."""

_MARK = "generation.json"
_UNFINISHED = ".new"
_DIGITS = 32
"""Digits of an archive's digest that stand in an image's tag."""


def image_tag(sha256: str, number: int, container: str) -> str:
    """Return the tag of the image that generation ``number`` makes of a container."""
    return f"{sha256[:_DIGITS]}-{number}-{container}"


def belongs_to(tag: str, sha256: str) -> bool:
    """Whether an image of that tag was made from that archive."""
    return tag.startswith(f"{sha256[:_DIGITS]}-")


@dataclass(eq=False)
class Generation:
    """One unpacking of an archive. Compared by identity: two are never the same.

    Attributes:
        directory: Where it lies.
        archive_sha256: The archive that it was made from.
        images: References of the images with the root file systems, by container.
        fingerprint: Digest over the names, sizes and times of the files.
        disk_bytes: Disk that a demo fills when it starts: its volumes are copied.

    """

    directory: Path
    archive_sha256: str
    images: dict[str, str]
    fingerprint: str
    disk_bytes: int = 0
    leases: int = field(default=0, init=False)
    _when_unused: list[Callable[[], object]] = field(default_factory=list, init=False, repr=False)

    @property
    def number(self) -> int:
        """Generations of an archive are counted, so that no two share a directory or an image."""
        return int(self.directory.name)

    def acquire(self) -> None:
        """Take a lease: the files stay until it is released."""
        self.leases += 1

    def release(self) -> None:
        """Give a lease back."""
        self.leases -= 1
        if self.leases == 0:
            # Each is called once, although a late reader may come and leave again.
            waiting, self._when_unused = self._when_unused, []
            for act in waiting:
                act()

    @contextlib.contextmanager
    def leased(self) -> Iterator[Generation]:
        """Hold a lease for the length of a block."""
        self.acquire()
        try:
            yield self
        finally:
            self.release()

    def when_unused(self, act: Callable[[], object]) -> None:
        """Call ``act`` as soon as nobody holds a lease: at once, or at the last release."""
        if self.leases == 0:
            act()
        else:
            self._when_unused.append(act)

    def link_images(self, container: str, static_dir: Path) -> None:
        """Link the files to where Podman looks for what a container is restored from. Blocking.

        Raises:
            OSError: there is something of that name already, or the disk is full.

        """
        for name in (CHECKPOINT, DEV_SHM):
            found = self.directory / container / name
            if found.exists():
                (static_dir / name).symlink_to(found)

    def hosts_of(self, container: str) -> str:
        """Return /etc/hosts of a container as the application left it. Blocking."""
        path = self.directory / container / HOSTS
        try:
            return path.read_text(errors="surrogateescape")
        except FileNotFoundError:
            return ""  # of an archive from before it was kept

    def volume(self, volume: str) -> Path:
        """Return where the content of a volume lies."""
        return self.directory / CHECKPOINTED_VOLUMES / volume

    def memory_bytes(self) -> int:
        """Return how much memory a restored demo fills. Blocking."""
        pages = self.directory.glob(f"*/{CHECKPOINT}/pages-*.img")
        return sum(path.stat().st_size for path in pages)

    def is_intact(self) -> bool:
        """Whether nothing was changed, added or taken away since. Blocking, under 1 ms."""
        try:
            return fingerprint_of(self.directory) == self.fingerprint
        except OSError:
            return False


class GenerationStore:
    """The directory of all generations (``data`` beside the archives)."""

    def __init__(self, directory: Path, remover: Remover | None = None) -> None:
        self.directory = directory
        self.remover = remover or Remover()

    def open(self) -> None:
        """Make the directory, private to root, and clear what interrupted work left. Blocking."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        for leftover in [
            *self.directory.glob(f".*{_UNFINISHED}"),
            *self.directory.glob(f"*/.*{_UNFINISHED}"),
        ]:
            self.remover.tree(leftover)

    def scratch(self, name: str) -> Path:
        """Return an empty directory for work that leaves nothing. Blocking."""
        scratch = self.directory / f".{name}{_UNFINISHED}"
        self.remover.tree(scratch)
        scratch.mkdir(mode=0o700)
        return scratch

    def begin(self, stem: str) -> Path:
        """Return an empty directory that becomes the next generation of an archive. Blocking."""
        home = self.directory / stem
        home.mkdir(mode=0o700, exist_ok=True)
        numbers = [int(path.name.strip(".").removesuffix(_UNFINISHED)) for path in home.iterdir()]
        unfinished = home / f".{max(numbers, default=0) + 1}{_UNFINISHED}"
        unfinished.mkdir(mode=0o700)
        return unfinished

    @staticmethod
    def number_of(unfinished: Path) -> int:
        """Return the number of the generation that a directory becomes."""
        return int(unfinished.name.strip(".").removesuffix(_UNFINISHED))

    def abandon(self, unfinished: Path) -> None:
        """Remove what was begun and is not needed; fine when it is gone. Blocking."""
        self.remover.tree(unfinished)

    def finish(self, unfinished: Path, archive_sha256: str, images: dict[str, str]) -> Generation:
        """Make what was unpacked a generation. Blocking.

        It survives a loss of power at any moment: all files are on the disk before the mark is.
        """
        sync_file_system(unfinished)
        directory = unfinished.rename(unfinished.parent / str(self.number_of(unfinished)))
        mark: dict[str, Any] = {
            "archive_sha256": archive_sha256,
            "images": images,
            "fingerprint": fingerprint_of(directory),
            "disk_bytes": _disk_bytes(directory / CHECKPOINTED_VOLUMES),
        }
        write_whole(directory / _MARK, json.dumps(mark, indent=1).encode())
        sync_directory(directory.parent)
        return Generation(directory, **mark)

    def find(self, stem: str, archive_sha256: str) -> Generation | None:
        """Return the newest whole generation of an archive. Blocking."""
        for directory in reversed(self._generations(stem)):
            try:
                found = Generation(directory, **json.loads((directory / _MARK).read_text()))
            except (OSError, ValueError, TypeError):
                continue
            if found.archive_sha256 == archive_sha256 and found.is_intact():
                return found
        return None

    def others(self, stem: str, kept: Generation | None) -> list[Path]:
        """Return the directories of an archive's other generations. Blocking."""
        mine = kept.directory if kept is not None else None
        return [path for path in self._generations(stem) if path != mine]

    def _generations(self, stem: str) -> list[Path]:
        home = self.directory / stem
        if not home.is_dir():
            return []
        return sorted((p for p in home.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))

    def remove(self, directory: Path) -> None:
        """Remove a generation; fine when it is gone. Blocking."""
        # The mark first: half a directory must not pass for a whole one.
        (directory / _MARK).unlink(missing_ok=True)
        self.remover.tree(directory)
        with contextlib.suppress(OSError):  # another generation is still there
            directory.parent.rmdir()

    def remove_all(self, stem: str) -> None:
        """Remove all generations of an archive; fine when there is none. Blocking."""
        home = self.directory / stem
        for directory in self._generations(stem):
            self.remove(directory)
        self.remover.tree(home)

    def stems(self) -> set[str]:
        """Return whose generations lie here. Blocking."""
        return {p.name for p in self.directory.iterdir() if not p.name.startswith(".")}


def fingerprint_of(directory: Path) -> str:
    """Return a digest over what identifies the content of the files without reading them.

    A change by the file system's ways moves ctime, which nobody can set. A change on the disk
    below it is found by the digest check of the archive.
    """
    facts = [
        (name, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        for top in directory.glob("*/")
        for name, found in _files_below(directory, top.name)
    ]
    digest = hashlib.sha256()
    for name, *about in sorted(facts):
        # A file name is bytes: one that is no UTF-8 must not end the digest.
        digest.update(os.fsencode(name) + f" {about}\n".encode())
    return digest.hexdigest()


def _disk_bytes(directory: Path) -> int:
    """Return what a copy of a directory takes on the disk. Blocking."""
    if not directory.exists():
        return 0
    # A block has 512 bytes, whatever the file system's are (stat(2)).
    return sum(found.st_blocks * 512 for _, found in _files_below(directory, "."))


def _files_below(directory: Path, top: str) -> Iterator[tuple[str, os.stat_result]]:
    """Give the name below ``directory`` and the facts of all that is in one of its directories."""
    # Not by recursion: an application's volume may have more levels than Python allows.
    ahead = [top]
    while ahead:
        below = ahead.pop()
        with os.scandir(directory / below) as entries:
            for entry in entries:
                name = f"{below}/{entry.name}"
                yield name, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    ahead.append(name)
