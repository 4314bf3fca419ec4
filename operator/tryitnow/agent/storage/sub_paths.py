"""What a ``subPath`` leads to, held so that nobody can swap it before it is mounted.

What is in a volume is the application's: it may put a link in the place of a directory at any
moment. So a path is opened step by step and through no link, as the kubelet does it, and what was
opened is bound to a place that no container sees. Podman gets that place.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from tryitnow.agent.storage.files import unmount

_libc = ctypes.CDLL(None, use_errno=True)

_MS_BIND = 4096
"""Of mount(2)."""

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class LeadsOutError(Exception):
    """A path leads out of its volume, or may do so at any moment; the message says by what."""


def hold(root: Path, sub_path: str, place: Path) -> None:
    """Bind what a path within a volume leads to at a place. Blocking.

    A directory that is missing is made. What was held there before is let go.

    Args:
        root: The volume.
        sub_path: The path within it.
        place: Where to hold it: below a directory that no container sees.

    Raises:
        LeadsOutError: the path leads out of the volume, or through a link.
        OSError: the disk is full or broken, or nothing can be mounted.

    """
    let_go(place)
    with _opened(root, sub_path) as handle:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            place.mkdir(mode=0o700)
        else:  # as those of a ConfigMap are
            place.touch(mode=0o600)
        # By the descriptor: what stands in the path by now is no matter.
        source = f"/proc/self/fd/{handle}"
        if _libc.mount(source.encode(), os.fsencode(place), None, _MS_BIND, None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(place))


def let_go(place: Path) -> None:
    """Unmount what is held at a place, and remove the place; fine when it is gone. Blocking.

    Raises:
        OSError: it is in use.

    """
    if not place.exists():
        return
    unmount(place)
    if place.is_dir():
        place.rmdir()
    else:
        place.unlink()


@contextmanager
def _opened(root: Path, sub_path: str) -> Iterator[int]:
    parts = [part for part in PurePosixPath(sub_path).parts if part != "."]
    if ".." in parts or PurePosixPath(sub_path).is_absolute():
        raise LeadsOutError("it leads out of the volume")
    here = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, part in enumerate(parts):
            within = "/".join(parts[: number + 1])
            if not stat.S_ISDIR(os.fstat(here).st_mode):
                raise LeadsOutError(f"{within!r} lies in what is no directory")
            step = _step(here, part)
            os.close(here)
            here = step
            if stat.S_ISLNK(os.fstat(here).st_mode):
                raise LeadsOutError(f"{within!r} is a link, which may lead out of the volume")
        yield here
    finally:
        os.close(here)


def _step(here: int, part: str) -> int:
    """Open one part of a path, and make it a directory where it is missing."""
    try:
        return os.open(part, _STEP, dir_fd=here)
    except FileNotFoundError:
        # Another container of the sandbox may make the same one at this moment.
        with suppress(FileExistsError):
            os.mkdir(part, dir_fd=here)
        return os.open(part, _STEP, dir_fd=here)
