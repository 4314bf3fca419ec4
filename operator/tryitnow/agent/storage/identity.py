"""Whether the node's storage and its cluster are what they were.

A random ID is in the data directory and in Podman's storage, and the cluster remembers it in the
NodeAgent's status, with the cluster's own identity. Where one of them is missing or another,
something was not mounted, restored from a backup, or exchanged. Then nothing is removed and no
demo is started anew, until a person confirms that all is as it should be.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from tryitnow.agent.storage.files import write_whole

FILE = "try-it-now-storage-id"


@dataclass(frozen=True)
class Mark:
    """What is written on a storage."""

    id: str
    """The storage's identity."""

    replaces: str | None = None
    """The identity that the node had when the storage was taken on: the cluster may know that one
    alone, where the agent was killed before it could report the new one."""


@dataclass(frozen=True)
class Marks:
    """What is found in the three places; None where there is nothing."""

    data: Mark | None
    """In the data directory."""

    podman: Mark | None
    """In Podman's storage."""

    cluster: str | None
    """In the NodeAgent's status."""


def read_mark(directory: Path) -> Mark | None:
    """Return the mark of a directory; None where there is none. Blocking.

    Raises:
        OSError: the disk is broken.

    """
    try:
        words = (directory / FILE).read_text(errors="replace").split()
    except FileNotFoundError:
        return None
    return Mark(words[0], *words[1:2]) if words else None


def write_mark(directory: Path, mark: Mark) -> None:
    """Write a mark into a directory: its identity, and below it the one it replaces. Blocking."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [mark.id, *([mark.replaces] if mark.replaces else [])]
    write_whole(directory / FILE, "".join(f"{line}\n" for line in lines).encode())


def new_storage_id() -> str:
    """Return an ID for a storage that has none."""
    return secrets.token_hex(16)


def what_changed(marks: Marks) -> str | None:
    """Return what is not as it was, in a sentence; None when all is well, or all is new."""
    data, podman, known = marks.data, marks.podman, marks.cluster
    if data is None and podman is None and known is None:
        return None
    if data is not None and podman is not None and data.id == podman.id:
        if known in {None, data.id, data.replaces}:
            return None
    elif known is None and (data is None or podman is None):
        where = "the data directory" if data is None else "Podman's storage"
        return f"{where} has lost the identity of this node's storage, or was exchanged"
    known = known or (data.id if data else None)
    changed = [
        where
        for where, mark in (("the data directory", data), ("Podman's storage", podman))
        if mark is None or mark.id != known
    ]
    how = f"{changed[0]} is" if len(changed) == 1 else f"{' and '.join(changed)} are"
    return (
        f"{how} not the storage that this node had (is a file system not mounted, was a "
        "directory exchanged, or was Podman reset?)"
    )
