"""An archive of several parts: one tar of tars, so that they travel and are checked as one.

``containers/<name>.tar`` is Podman's export of a container, ``volumes/<name>.tar`` the content of
a volume. The archive of one container without volumes is its export itself, as Podman knows it.
"""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tryitnow.agent.errors import VolumeError

CONTAINERS = "containers"
VOLUMES = "volumes"
SUB_PATHS = ".sub-paths"
"""Beside the volumes, and no name that one can have: what subPaths lead to, as CONTAINER/NUMBER."""

_CHUNK_BYTES = 1 << 20


def bundle(parts: Mapping[str, Path]) -> Iterator[bytes]:
    """Give the bytes of a tar of files, each under its name. Blocking."""
    for name, path in parts.items():
        member = tarfile.TarInfo(name)
        member.size = path.stat().st_size
        member.mode = 0o600
        yield member.tobuf(tarfile.PAX_FORMAT)
        yield from chunks_of(path)
        if rest := member.size % tarfile.BLOCKSIZE:
            yield bytes(tarfile.BLOCKSIZE - rest)
    yield bytes(2 * tarfile.BLOCKSIZE)


def chunks_of(path: Path) -> Iterator[bytes]:
    """Give the bytes of a file. Blocking."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def pack_volume(directory: Path, target: Path) -> None:
    """Write what is in a volume into a tar. Blocking.

    Raises:
        VolumeError: the disk is full or broken.

    """
    write_tar(target, str(directory), f"--directory={directory}", ".")


def write_tar(target: Path, what: str, *selection: str) -> None:
    """Write files into a tar that keeps owners, attributes and holes. Blocking.

    Args:
        target: Where to.
        what: What it is, for the message.
        selection: The options and names by which GNU tar finds the files.

    Raises:
        VolumeError: the disk is full or broken.

    """
    argv = ["tar", "--create", f"--file={target}", "--numeric-owner", "--xattrs", "--sparse"]
    done = subprocess.run([*argv, *selection], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        msg = f"{what} cannot be packed: {done.stderr.strip()[-500:]}"
        raise VolumeError(msg)
