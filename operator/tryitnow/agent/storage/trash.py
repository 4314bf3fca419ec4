"""Files that nobody owned when they were removed: kept for a while, in case somebody misses them.

``trash/<time>_<name>``: moved here by a rename, so that nothing of it is copied or lost.
"""

from __future__ import annotations

import time
from pathlib import Path

from tryitnow.agent.storage.files import unmount_below
from tryitnow.agent.storage.wipe import Remover


class Trash:
    """The trash directory (``trash`` beside the archives)."""

    def __init__(self, directory: Path, remover: Remover | None = None) -> None:
        self.directory = directory
        self._remover = remover or Remover()

    def open(self) -> None:
        """Make the directory, private to root. Blocking."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)

    def put(self, path: Path) -> Path:
        """Move a file or directory of the same file system here. Blocking.

        Raises:
            OSError: it is gone, or lies on another file system.

        """
        target = self.directory / f"{time.time_ns()}_{path.name}"
        return path.rename(target)

    def entries(self) -> set[str]:
        """Return the names of what lies here. Blocking."""
        return {path.name for path in self.directory.iterdir()}

    def delete(self, name: str) -> None:
        """Remove one entry for good; fine when it is gone. Blocking.

        Raises:
            OSError: something in it cannot be removed.

        """
        # Volumes of memory came along mounted.
        unmount_below(self.directory / name)
        self._remover.tree(self.directory / name)
