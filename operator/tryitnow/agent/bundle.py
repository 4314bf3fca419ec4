"""An archive of several containers: one tar of tars, so that they travel and are checked as one.

``containers/<name>.tar`` is Podman's export of a container, ``volumes/<name>.tar`` the content of
a volume. A lone container's archive is its export itself, as Podman knows it.
"""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tryitnow.agent.names import POD_TAG_BYTES
from tryitnow.agent.unpack import UnpackError
from tryitnow.agent.volumes import VolumeError

CONTAINERS = "containers"
VOLUMES = "volumes"

_CHUNK_BYTES = 1 << 20
_CONFIGURATIONS = ("config.dump", "spec.dump")
"""Where an export says what was mounted (checkpointctl's ``metadata.go``)."""


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


def point_at_volumes(export: Path, volumes: Path) -> None:
    """Make a container's export, read by an import, mount the volumes of another pod.

    The sources are changed where they stand: the names of all pods are of one length.

    Raises:
        UnpackError: the export is not laid out as expected, or comes from a node that keeps its
            volumes elsewhere.

    """
    tag = volumes.name
    mounted = re.compile(rf"^(.*/volumes/)[0-9a-f]{{{2 * POD_TAG_BYTES}}}(?=/)".encode())
    with tarfile.open(export, "r:") as tar:
        places = [
            (member.offset_data, member.size) for member in tar if member.name in _CONFIGURATIONS
        ]
    with export.open("r+b") as file:
        for offset, size in places:
            file.seek(offset)
            text = file.read(size)
            for source in _sources(text):
                changed = mounted.sub(rb"\g<1>" + tag.encode(), source)
                if changed == source:
                    continue
                if not changed.startswith(str(volumes).encode() + b"/"):
                    msg = (
                        f"it mounts {source.decode(errors='replace')}, but volumes lie in "
                        f"{volumes.parent} here; give all agents the same CHECKPOINT_PATH"
                    )
                    raise UnpackError(msg)
                text = text.replace(b'"' + source + b'"', b'"' + changed + b'"')
            file.seek(offset)
            file.write(text)


def _sources(text: bytes) -> set[bytes]:
    """All strings of a JSON text that may be the source of a mount."""
    try:
        mounts = _mounts(json.loads(text))
    except ValueError as error:
        msg = f"the export's configuration cannot be read: {error}"
        raise UnpackError(msg) from error
    return {source.encode() for source in mounts}


def _mounts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "source" and isinstance(inner, str):
                yield inner
            else:
                yield from _mounts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _mounts(inner)
