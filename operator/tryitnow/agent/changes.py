"""What a container changed of its image's files, as its export carries it to its copies.

Podman's own export (``crutils.CRCreateRootFsDiffTar``, 5.8) loses files of the image that were
changed, unless the node itself has a file of that path; owner and mode of directories; and what
lies in a directory that was removed and made again. Where a directory took the place of a file, it
fails. So an export is made without changes and gets them here, in the form that Podman reads:
``rootfs-diff.tar`` is unpacked over the image's files, then the paths in ``deleted.files`` are
removed.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tryitnow.agent.node import Node
from tryitnow.agent.unpack import DELETED_FILES, ROOT_FS_DIFF
from tryitnow.agent.volumes import VolumeError
from tryitnow.background import in_thread

_NOT_THE_IMAGES = frozenset(
    {
        "dev",
        "etc/hostname",
        "etc/hosts",
        "etc/resolv.conf",
        "proc",
        "run/.containerenv",
        "run/notify",
        "run/secrets",
        "sys",
    }
)
"""Where Podman mounts something of its own in each container (``libpod/diff.go``)."""


@dataclass
class Changes:
    """How a container's files differ from its image's; paths are relative to the root."""

    present: list[str] = field(default_factory=list)
    """What is there and differs, each path by itself, directories before what is in them."""

    gone: list[str] = field(default_factory=list)
    """What the image has and the container has not. Where something else took a directory's
    place, that alone tells of it."""


async def add_changes(node: Node, own: str, helper: str, export: Path) -> None:
    """Add to the export of a stopped container what it changed of its image's files.

    Args:
        node: Where it lies.
        own: Its name.
        helper: Name for a container in which to look at its image.
        export: A plain tar without them.

    Raises:
        PodmanError: Podman does not show them.
        VolumeError, OSError: the disk is full or broken.

    """
    diff = export.with_suffix(".diff")

    def pack_changes(root: Path, image: Path) -> Changes:
        found = compare(root, image)
        if found.present:
            pack(root, found.present, diff)
        return found

    try:
        found = await node.podman.with_roots(own, helper, pack_changes)
        if found.present or found.gone:
            await in_thread(_add, export, diff if found.present else None, found.gone)
    finally:
        diff.unlink(missing_ok=True)


def compare(root: Path, image: Path) -> Changes:
    """Find what differs, without reading the files: a change changes the time of an inode.

    What was not changed is the same inode of the image's layers in both. Blocking.

    Args:
        root: The container's files.
        image: Those of its image.

    """
    found = Changes()
    ahead: list[tuple[str, bool]] = [("", True)]
    while ahead:
        below, is_the_images = ahead.pop()
        here = _entries(root, below)
        # In the place of something else it is all new: there is nothing to be compared with.
        there = _entries(image, below) if is_the_images else {}
        for name, now in here.items():
            path = f"{below}{name}"
            if path in _NOT_THE_IMAGES:
                continue
            before = there.get(name)
            if before is None or _differ(now, before):
                found.present.append(path)
            if stat.S_ISDIR(now.st_mode):
                ahead.append((f"{path}/", before is not None and stat.S_ISDIR(before.st_mode)))
        gone = (f"{below}{name}" for name in there.keys() - here.keys())
        found.gone += sorted(path for path in gone if path not in _NOT_THE_IMAGES)
    return found


def _entries(root: Path, below: str) -> dict[str, os.stat_result]:
    with os.scandir(f"{root}/{below}") as entries:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}


def _differ(now: os.stat_result, before: os.stat_result) -> bool:
    return (now.st_mode, now.st_uid, now.st_gid, now.st_size, now.st_ctime_ns) != (
        before.st_mode,
        before.st_uid,
        before.st_gid,
        before.st_size,
        before.st_ctime_ns,
    )


def pack(root: Path, paths: Iterable[str], target: Path) -> None:
    """Write a tar of paths below a root, none of them with what is in it. Blocking.

    Raises:
        VolumeError: the disk is full or broken.

    """
    argv = [
        "tar", "--create", f"--file={target}", f"--directory={root}", "--numeric-owner",
        "--xattrs", "--sparse", "--no-recursion", "--null", "--verbatim-files-from",
        "--files-from=-",
    ]  # fmt: skip
    # A socket is nothing without its process, and CRIU makes it anew: no tar holds one.
    listed = b"".join(os.fsencode(path) + b"\0" for path in paths if not _is_socket(root / path))
    done = subprocess.run(argv, input=listed, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        msg = f"the changed files of the container cannot be packed: {said}"
        raise VolumeError(msg)


def _is_socket(path: Path) -> bool:
    return stat.S_ISSOCK(path.lstat().st_mode)


def _add(export: Path, diff: Path | None, gone: list[str]) -> None:
    with tarfile.open(export, "a:") as tar:
        if diff is not None:
            tar.add(diff, arcname=ROOT_FS_DIFF, filter=_private)
        if gone:
            with tempfile.TemporaryFile() as file:
                file.write(json.dumps([f"/{path}" for path in gone]).encode())
                member = _private(tarfile.TarInfo(DELETED_FILES))
                member.size = file.tell()
                file.seek(0)
                tar.addfile(member, file)


def _private(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mode, member.uid, member.gid, member.uname, member.gname = 0o600, 0, 0, "", ""
    return member
