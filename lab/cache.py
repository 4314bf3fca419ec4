"""Keeps what is slow to make, keyed by a hash of what it was made from.

An entry is a directory. It is made under a temporary name and renamed when complete, so an entry
that exists is whole; a lock keeps two labs from making the same one at the same time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def root() -> Path:
    """The cache's directory: TRYITNOW_CACHE, or try-it-now in the user's cache directory."""
    chosen = os.environ.get("TRYITNOW_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "try-it-now"


def key(*made_from: str | bytes) -> str:
    """A short hash over everything an entry is made from."""
    digest = hashlib.sha256()
    for part in made_from:
        raw = part.encode() if isinstance(part, str) else part
        # The length goes in first, so that ("ab", "c") and ("a", "bc") differ.
        digest.update(f"{len(raw)}:".encode() + raw)
    return digest.hexdigest()[:16]


def tree_key(directory: Path) -> str:
    """A hash over the names, modes and contents of all files below a directory, but bytecode."""
    parts: list[str | bytes] = []
    for path in sorted(directory.rglob("*")):
        if "__pycache__" in path.relative_to(directory).parts:
            continue  # of a module that was imported from there
        mode = path.lstat().st_mode
        parts.append(f"{path.relative_to(directory)} {mode:o}")
        if path.is_symlink():
            parts.append(str(path.readlink()))
        elif path.is_file():
            parts.append(path.read_bytes())
    return key(*parts)


def entry(kind: str, entry_key: str, make: Callable[[Path], None]) -> Path:
    """The directory `kind-key`; `make` fills it where it does not exist yet."""
    wanted = root() / f"{kind}-{entry_key}"
    if wanted.is_dir():
        return wanted
    with lock(f"{kind}-{entry_key}"):
        if wanted.is_dir():
            return wanted  # another lab made it while this one waited for the lock
        unfinished = root() / f"unfinished-{kind}-{entry_key}"
        # Under the lock this can only be the remains of a run that was interrupted.
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished)
        unfinished.rename(wanted)
    return wanted


def directory(name: str) -> Path:
    """A directory of the cache that grows in place (registry storage, bytecode)."""
    path = root() / name
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the machine-wide lock of one entry."""
    locks = directory("locks")
    with (locks / name).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
