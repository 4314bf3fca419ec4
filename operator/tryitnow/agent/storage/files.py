"""Files: written so that a loss of power leaves the old content or the new one, and removed."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tryitnow.agent.errors import NodeShortError
from tryitnow.api.limits import DISK_FAILING, DISK_FULL, FILES_EXHAUSTED

_libc = ctypes.CDLL(None, use_errno=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, private to root: temporary name, fsync, rename, fsync of the directory."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Bring the names in a directory to the disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file_system(path: Path) -> None:
    """Bring everything that was written to a path's file system to the disk (syncfs(2)).

    Raises:
        OSError: the disk is broken.

    """
    handle = os.open(path, os.O_RDONLY)
    try:
        if _libc.syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(handle)


def free_bytes(directory: Path) -> int:
    """Return the free space of a directory's file system, as others than root have it."""
    stat = os.statvfs(directory)
    return stat.f_bavail * stat.f_frsize


def remove_tree(directory: Path) -> None:
    """Remove a directory with all that is in it; fine when it is gone. Blocking.

    GNU rm needs no memory for deep trees: ``shutil.rmtree`` of Python 3.11 ends with a
    RecursionError below some 1,000 directories, and a demo with such a tree could never be deleted.

    Raises:
        OSError: something in it cannot be removed.

    """
    argv = ["rm", "--recursive", "--force", "--one-file-system", "--", str(directory)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(errno.EIO, done.stderr.strip()[-500:], str(directory))


def unmount_below(directory: Path) -> None:
    """Unmount everything that is mounted below a directory. Blocking.

    Raises:
        OSError: it is in use.

    """
    home = f"{directory.absolute()}/"
    _unmount(point for point in _mount_points() if point.startswith(home))


def unmount(path: Path) -> None:
    """Unmount what is mounted at a path; fine when nothing is. Blocking.

    Raises:
        OSError: it is in use.

    """
    _unmount(point for point in _mount_points() if point == str(path.absolute()))


def _unmount(found: Iterable[str]) -> None:
    for point in reversed([*found]):  # what is mounted in another mount comes after it
        done = subprocess.run(["umount", "--", point], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OSError(errno.EBUSY, done.stderr.strip()[-500:], point)


def _mount_points() -> list[str]:
    # The fifth field of each line, with spaces and their like as octal digits (proc(5)).
    lines = os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).splitlines()
    points = [line.split(" ")[4] for line in lines]
    return [re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), p) for p in points]


def short_of_disk(error: OSError, doing: str, directory: Path) -> NodeShortError:
    """Return an error of the disk as a limit of the node, with the remedy."""
    free = _free_words(directory)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        msg = f"{doing}: the disk is full ({error}); {free}; make room there"
        return NodeShortError(DISK_FULL, msg)
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        msg = f"{doing}: too many files are open ({error}); raise fs.file-max or the agent's limit"
        return NodeShortError(FILES_EXHAUSTED, msg)
    msg = f"{doing}: the disk failed ({error}); {free}; look into the node's kernel log"
    return NodeShortError(DISK_FAILING, msg)


def _free_words(directory: Path) -> str:
    try:
        return f"{free_bytes(directory) >> 20} MiB are free at {directory}"
    except OSError as error:  # a disk that failed may not tell even that
        return f"nobody knows how much is free at {directory} ({error})"
