"""The revisions that this node has approved: what a live Checkpoint said while this agent looked.

A Checkpoint may change or go while demos of an older revision run. One empty file per revision, of
the name of its identity, survives the agent and a reboot. The identity is a digest over the
definition, so that the name is all that has to be remembered.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

MOST = 2000
"""Revisions that are remembered before those that nothing here needs are forgotten."""


class Approvals:
    """The directory ``revisions`` beside the archives."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> None:
        """Make the directory, private to root. Blocking."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o700)

    def has(self, identity: str) -> bool:
        """Whether a revision was approved. Blocking."""
        return (self._directory / identity).exists()

    def add(self, identity: str) -> None:
        """Remember that a revision was approved. Blocking.

        Raises:
            OSError: the disk is full or broken.

        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
        os.close(os.open(self._directory / identity, flags, 0o600))
        handle = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def trim(self, needed: Collection[str]) -> None:
        """Forget revisions that nothing here needs, once there are many. Blocking."""
        known = {path.name for path in self._directory.iterdir()}
        if len(known) > MOST:
            for identity in known - set(needed):
                (self._directory / identity).unlink(missing_ok=True)
