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
class Marks:
    """What is found in the three places; None where there is nothing."""

    data: str | None
    """In the data directory."""

    podman: str | None
    """In Podman's storage."""

    cluster: str | None
    """In the NodeAgent's status."""


def read_mark(directory: Path) -> str | None:
    """Return the ID in a directory; None where there is none. Blocking.

    Raises:
        OSError: the disk is broken.

    """
    try:
        return (directory / FILE).read_text(errors="replace").strip() or None
    except FileNotFoundError:
        return None


def write_mark(directory: Path, storage_id: str) -> None:
    """Write the ID into a directory. Blocking."""
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / FILE, f"{storage_id}\n".encode())


def new_storage_id() -> str:
    """Return an ID for a storage that has none."""
    return secrets.token_hex(16)


def what_changed(marks: Marks) -> str | None:
    """Return what is not as it was, in a sentence; None when all is well, or all is new."""
    if marks.data == marks.podman and marks.cluster in {None, marks.data}:
        return None
    if marks.cluster is None and (marks.data is None or marks.podman is None):
        where = "the data directory" if marks.data is None else "Podman's storage"
        return f"{where} has lost the identity of this node's storage, or was exchanged"
    known = marks.cluster or marks.data
    changed = [
        where
        for where, mark in (("the data directory", marks.data), ("Podman's storage", marks.podman))
        if mark != known
    ]
    how = f"{changed[0]} is" if len(changed) == 1 else f"{' and '.join(changed)} are"
    return (
        f"{how} not the storage that this node had (is a file system not mounted, was a "
        "directory exchanged, or was Podman reset?)"
    )
