"""Parts for tests of files on the node's disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LEVELS = 1100
"""Python may recurse 1,000 times."""

MakeDeep = Callable[..., None]


@pytest.fixture
def make_deep(tmp_path: Path) -> Iterator[MakeDeep]:
    """Makes a tree of more levels than Python may recurse."""
    yield _make_deep
    # pytest itself cannot remove what a test left of them.
    subprocess.run(["rm", "-rf", tmp_path], check=True)


def _make_deep(directory: Path, levels: int = LEVELS) -> None:
    directory.mkdir(parents=True)
    at = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=at))
    os.close(at)
