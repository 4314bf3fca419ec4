"""Removes archives and what is unpacked from them, and overwrites them first where that is wanted.

The blocks of a file that is only unlinked hold the memory of an application until something else is
written there. Overwritten are the blocks that the file has: what a file system with copy-on-write,
or an SSD, keeps of them besides is out of reach.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tryitnow.agent.storage.files import remove_tree

logger = logging.getLogger(__name__)

_ZEROS = bytes(1 << 20)

_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
"""linux/falloc.h"""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


@dataclass(frozen=True)
class Remover:
    """Removes files, as the administrator wants it."""

    wipe: bool = False
    """Whether they are overwritten before."""

    def file(self, path: Path) -> None:
        """Remove a file; fine when it is gone. Blocking.

        Raises:
            OSError: it cannot be removed.

        """
        if self.wipe:
            _wipe(path)
        path.unlink(missing_ok=True)

    def replace(self, new: Path, path: Path) -> None:
        """Give a file the name of another, which goes. Blocking.

        Raises:
            OSError: it cannot be renamed.

        """
        handle = _open(path) if self.wipe else None
        try:
            new.rename(path)
            if handle is not None:
                _wipe_open(handle, path)
        finally:
            if handle is not None:
                os.close(handle)

    def tree(self, directory: Path) -> None:
        """Remove a file or a directory with all that is in it; fine when it is gone. Blocking.

        Raises:
            OSError: something in it cannot be removed.

        """
        if self.wipe:
            for path in _files_below(directory):
                _wipe(path)
        remove_tree(directory)


def _files_below(directory: Path) -> Iterator[Path]:
    """Yield the files that have no name elsewhere, and are no other file system's."""
    # As for `remove_tree`: trees of demos may be deeper than Python recurses.
    argv = ["find", str(directory), "-xdev", "-type", "f", "-links", "1", "-print0"]
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode != 0 and directory.exists():
        logger.warning("not all below %s is wiped: %s", directory, os.fsdecode(done.stderr))
    yield from (Path(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name)


def _wipe(path: Path) -> None:
    handle = _open(path)
    if handle is None:
        return
    try:
        _wipe_open(handle, path)
    finally:
        os.close(handle)


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("%s is removed without being wiped: %s", path, error)
        return None


def _wipe_open(handle: int, path: Path) -> None:
    """Overwrite a file. A disk that fails keeps nobody from removing it: removing always ends."""
    try:
        size = os.fstat(handle).st_size
        for begin, end in _extents(handle, size):
            for at in range(begin, end, len(_ZEROS)):
                os.pwrite(handle, _ZEROS[: end - at], at)
        os.fsync(handle)
        _give_back(handle, size)
    except OSError as error:
        logger.warning("%s is removed without being wiped whole: %s", path, error)


def _extents(handle: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where there is data: zeros in a hole would take room that the disk may not have."""
    at = 0
    while at < size:
        try:
            begin = os.lseek(handle, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        at = os.lseek(handle, begin, os.SEEK_HOLE)
        yield begin, at


def _give_back(handle: int, size: int) -> None:
    """Have the disk forget the blocks too, where it can: a hole is discarded, as by `fstrim`."""
    whole = -(-size // len(_ZEROS)) * len(_ZEROS)  # half a block stays
    if size == 0 or _libc.fallocate(handle, _KEEP_SIZE | _PUNCH_HOLE, 0, whole) == 0:
        return
    number = ctypes.get_errno()
    if number != errno.EOPNOTSUPP:
        raise OSError(number, os.strerror(number))
