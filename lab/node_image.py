"""The image of a node: the root file system of the operator's image, so that the lab runs what
ships."""

from __future__ import annotations

import re
from pathlib import Path

from lab import LabError, cache, operator_image
from lab.progress import step


def root_file_system() -> Path:
    """The read-only tree below every node.

    Our own package in it may be older than the checkout, whose sources the nodes run instead.
    """

    def make(target: Path) -> None:
        reference = operator_image.build()
        with step("unpacking the operator's image", usually="5 s"):
            operator_image.export(reference, target)

    return cache.entry("node", operator_image.key(), make)


def python_version(tree: Path) -> str:
    """The Python of a node, such as 3.14."""
    found = re.fullmatch(r"python(3\.\d+)", str((tree / "usr/bin/python3").readlink()))
    if not found:
        raise LabError(f"{tree}/usr/bin/python3 does not point to a Python 3 by its version.")
    return found[1]
