"""What lies ready on the node for restores of one revision, and the proof that it is unchanged.

``data/<archive>/<container>/checkpoint``: CRIU's images, unpacked once, read by every restore.
``data/<archive>/<container>/devshm-checkpoint.tar``: what lay in /dev/shm, where something did.
``data/<archive>/.volumes/<volume>``: what volumes held, copied for every restore.
``data/<archive>/prepared.json``: what it was made from, and a seal over the files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from tryitnow.agent.unpack import CHECKPOINT, DEV_SHM

REPOSITORY = "localhost/tryitnow/prepared"
"""Images of ours: each is the frozen root file system of one archive."""

FROZEN_VOLUMES = ".volumes"
"""No container can be called so."""

_MARK = "prepared.json"
_UNFINISHED = ".new"


_DIGITS = 32
"""Digits of an archive's digest that stand in a tag."""


def image_tag(sha256: str, container: str) -> str:
    """Return the tag of the image that is made from a container in an archive."""
    return f"{sha256[:_DIGITS]}-{container}"


def belongs_to(tag: str, sha256: str) -> bool:
    """Whether an image of that tag was made from that archive."""
    return tag.startswith(f"{sha256[:_DIGITS]}-")


@dataclass(frozen=True)
class Prepared:
    """A prepared archive.

    Attributes:
        directory: Where it lies.
        archive_sha256: The archive that it was made from.
        images: References of the images with the frozen root file systems, by container.
        seal: Digest over the names, sizes and times of the files.

    """

    directory: Path
    archive_sha256: str
    images: dict[str, str]
    seal: str

    def put_beside(self, container: str, beside: Path) -> None:
        """Link the files to where Podman looks for what a container is restored from. Blocking.

        Raises:
            OSError: there is something of that name already, or the disk is full.

        """
        for name in (CHECKPOINT, DEV_SHM):
            found = self.directory / container / name
            if found.exists():
                (beside / name).symlink_to(found)

    def frozen_volume(self, volume: str) -> Path:
        """Return where the content of a volume lies."""
        return self.directory / FROZEN_VOLUMES / volume

    def memory_bytes(self) -> int:
        """Return how much memory a copy fills when it is thawed. Blocking."""
        pages = self.directory.glob(f"*/{CHECKPOINT}/pages-*.img")
        return sum(path.stat().st_size for path in pages)

    def is_intact(self) -> bool:
        """Whether nothing was changed, added or taken away since. Blocking, under 1 ms."""
        try:
            return seal_of(self.directory) == self.seal
        except OSError:
            return False


class DataStore:
    """The directory of what is prepared (``data`` beside the archives)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self) -> None:
        """Make the directory, private to root, and clear what an interrupted preparing left."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        for leftover in self.directory.glob(f".*{_UNFINISHED}"):
            shutil.rmtree(leftover)

    def begin(self, stem: str) -> Path:
        """Return an empty directory to prepare in. Blocking."""
        unfinished = self.directory / f".{stem}{_UNFINISHED}"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        return unfinished

    def path(self, stem: str) -> Path:
        """Return where an archive's data lies or would lie."""
        return self.directory / stem

    def abandon(self, stem: str) -> None:
        """Remove what was begun and is not needed; fine when there is nothing. Blocking."""
        unfinished = self.directory / f".{stem}{_UNFINISHED}"
        if unfinished.exists():
            shutil.rmtree(unfinished)

    def finish(self, stem: str, archive_sha256: str, images: dict[str, str]) -> Prepared:
        """Make what was prepared the one that serves. Blocking."""
        unfinished = self.directory / f".{stem}{_UNFINISHED}"
        self.remove(stem)
        directory = unfinished.rename(self.path(stem))
        prepared = Prepared(directory, archive_sha256, images, seal_of(directory))
        mark = asdict(prepared) | {"directory": str(directory)}
        (directory / _MARK).write_text(json.dumps(mark, indent=1))
        return prepared

    def find(self, stem: str, archive_sha256: str) -> Prepared | None:
        """Return what an earlier run prepared from that archive, if it is whole. Blocking."""
        directory = self.path(stem)
        try:
            mark = json.loads((directory / _MARK).read_text())
            found = Prepared(directory, mark["archive_sha256"], mark["images"], mark["seal"])
        except (OSError, ValueError, KeyError):
            return None
        return found if found.archive_sha256 == archive_sha256 and found.is_intact() else None

    def remove(self, stem: str) -> None:
        """Remove what was prepared; fine when there is nothing. Blocking."""
        directory = self.path(stem)
        # The mark first: half a directory must not pass for a whole one.
        (directory / _MARK).unlink(missing_ok=True)
        if directory.exists():
            shutil.rmtree(directory)

    def stems(self) -> set[str]:
        """Return whose data lies here."""
        return {p.name for p in self.directory.iterdir() if not p.name.startswith(".")}


def seal_of(directory: Path) -> str:
    """Return a digest over what identifies the content of the files without reading them.

    A change by the file system's ways moves ctime, which nobody can set; what changes on the disk
    below it is what the digest check of the archive is for.
    """
    digest = hashlib.sha256()
    for path in sorted(found for inner in directory.glob("*/") for found in inner.rglob("*")):
        found = path.lstat()
        facts = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        digest.update(f"{path.relative_to(directory)} {facts}\n".encode())
    return digest.hexdigest()
