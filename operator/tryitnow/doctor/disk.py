"""The directory of the archives, and the file systems that demos fill."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DiskFacts:
    """Free space on a file system for users other than root."""

    path: Path
    """A path on it, as people know it."""

    device: int
    """Which file system it is: those of one number share what is left."""

    free_bytes: int
    free_inodes: int | None
    """None where the file system has no fixed number of them (btrfs)."""


@dataclass(frozen=True, kw_only=True)
class DirectoryFacts:
    """The checkpoint directory, or the place where it would be."""

    path: Path
    exists: bool
    problem: str
    """The reason why it could not be read; empty when it could, or does not exist."""

    is_directory: bool
    writable: bool
    """We can write to it, or to the nearest one above it that exists."""

    mode: int
    """Permission bits; 0 when there is no directory."""

    owner: int
    archives: int
    """How many archives lie in it."""


def examine_directory(path: Path) -> DirectoryFacts:
    """Look at the checkpoint directory. Never raises."""
    problem = ""
    found: os.stat_result | None = None
    try:
        found = path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        problem = error.strerror or str(error)
    is_directory = found is not None and stat.S_ISDIR(found.st_mode)
    return DirectoryFacts(
        path=path,
        exists=found is not None,
        problem=problem,
        is_directory=is_directory,
        writable=os.access(path if found else nearest_existing(path), os.W_OK | os.X_OK),
        mode=stat.S_IMODE(found.st_mode) if found else 0,
        owner=found.st_uid if found else 0,
        archives=_archives(path),
    )


def examine_disk(path: Path, root: Path = Path("/")) -> DiskFacts | None:
    """Look at the file system of a path, or of where it would be; None where that is impossible.

    Args:
        path: The path as people know it.
        root: Where it is to be looked for.

    """
    try:
        nearest = nearest_existing(root / str(path).lstrip("/"))
        free, device = os.statvfs(nearest), nearest.stat().st_dev
    except OSError:
        return None
    return DiskFacts(
        path=path,
        device=device,
        free_bytes=free.f_bavail * free.f_frsize,
        free_inodes=free.f_favail if free.f_files else None,
    )


def nearest_existing(path: Path) -> Path:
    """Return the path, or the nearest one above it that exists."""
    for candidate in (path, *path.parents):
        if os.access(candidate, os.F_OK):
            return candidate
    return path


def _archives(path: Path) -> int:
    try:
        names = [entry.name for entry in path.iterdir()]
    except OSError:
        return 0
    return sum(not name.startswith(".") and name.endswith((".tar", ".tar.zst")) for name in names)
