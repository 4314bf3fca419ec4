"""What a container changed of its image's files, as its export carries it to the restores.

Podman's own export (``crutils.CRCreateRootFsDiffTar``, 5.8) loses files of the image that were
changed, unless the node itself has a file of that path; owner and mode of directories; and what
lies in a directory that was removed and made again. Where a directory took the place of a file, it
fails. So an export is made without changes and gets them here, in the form that Podman reads:
``rootfs-diff.tar`` is unpacked over the image's files, then the paths in ``deleted.files`` are
removed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tryitnow.agent.errors import VolumeError
from tryitnow.agent.storage.bundle import write_tar
from tryitnow.agent.storage.unpack import DELETED_FILES, HOSTS, ROOT_FS_DIFF
from tryitnow.background import in_thread
from tryitnow.podman.client import Podman

_MOUNTED_OVER = frozenset(
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
"""Where Podman mounts something of its own in each container (``libpod/diff.go``). They are no
changes; what lies in those that are directories may be one."""


@dataclass
class Changes:
    """How a container's files differ from its image's; paths are relative to the root."""

    present: list[str] = field(default_factory=list)
    """What is there and differs, each path by itself, directories before what is in them."""

    gone: list[str] = field(default_factory=list)
    """What the image has and the container has not. Where something else took a directory's
    place, that alone tells of it."""

    gone_links: list[str] = field(default_factory=list)
    """Those of them that are links in the image."""


async def add_changes(
    podman: Podman, container: str, helper: str, export: Path, hosts: str
) -> None:
    """Add to the export of a stopped container what it changed of its image's files.

    Args:
        podman: Podman of this node.
        container: Name of the container.
        helper: Name for a container in which to look at its image.
        export: A plain tar without them.
        hosts: What the container's /etc/hosts held: Podman makes a new one for each restore.

    Raises:
        PodmanError: Podman does not show them.
        VolumeError, OSError: the disk is full or broken.

    """
    diff = export.with_suffix(".diff")

    def pack_changes(root: Path, image: Path) -> Changes:
        found = compare(root, image)
        pack(root, found, diff)
        return found

    try:
        found = await podman.with_roots(container, helper, pack_changes)
        if found.present or found.gone:
            await in_thread(_add, export, diff, found.gone)
        if hosts:
            await in_thread(_add_text, export, HOSTS, hosts)
    finally:
        diff.unlink(missing_ok=True)


def compare(root: Path, image: Path) -> Changes:
    """Find what differs, without reading the files: a change changes the time of an inode.

    What was not changed is, in both, the inode of a layer of the image. Blocking.

    Args:
        root: The container's files.
        image: Those of its image.

    """
    found = Changes()
    ahead: list[tuple[str, bool]] = [("", True)]
    while ahead:
        below, is_the_images = ahead.pop()
        # In the place of something else it is all new: there is nothing to be compared with.
        there = dict(_entries(image, below)) if is_the_images else {}
        for name, now in _entries(root, below):
            path = f"{below}{name}"
            before = there.pop(name, None)
            if now != before and path not in _MOUNTED_OVER:
                found.present.append(path)
            if stat.S_ISDIR(now.mode):
                ahead.append((f"{path}/", before is not None and stat.S_ISDIR(before.mode)))
        for name, before in sorted(there.items()):
            path = f"{below}{name}"
            if path not in _MOUNTED_OVER:
                found.gone.append(path)
                if stat.S_ISLNK(before.mode):
                    found.gone_links.append(path)
    return found


class _Seen(NamedTuple):
    """What of an inode is compared: little, as there may be very many in a directory."""

    mode: int
    uid: int
    gid: int
    size: int
    ctime_ns: int


def _entries(root: Path, below: str) -> Iterator[tuple[str, _Seen]]:
    with os.scandir(f"{root}/{below}") as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            yield (
                entry.name,
                _Seen(found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_ctime_ns),
            )


def pack(root: Path, changes: Changes, target: Path) -> None:
    """Write a tar of what is there and differs, each path without what is in it. Blocking.

    Raises:
        VolumeError: the disk is full or broken, or too small for a copy.

    """
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        # Podman removes what a link leads to in its place (securejoin, since 5.8.2): first there
        # is a file instead, which it may remove.
        instead = Path(scratch) / "instead"
        instead.mkdir()
        for path in changes.gone_links:
            (instead / path).parent.mkdir(parents=True, exist_ok=True)
            (instead / path).touch()
        changed = _list(Path(scratch) / "root", _packable(root, changes, target))
        write_tar(
            target, "the changed files of the container", "--no-recursion", "--null",
            "--verbatim-files-from",
            f"--directory={instead}", f"--files-from={_list(instead, changes.gone_links)}",
            f"--directory={root}", f"--files-from={changed}",
        )  # fmt: skip


def _list(beside: Path, paths: Iterable[str]) -> Path:
    """Write names as tar reads them, whatever is in them."""
    target = beside.with_suffix(".list")
    with target.open("wb") as file:
        file.writelines(os.fsencode(path) + b"\0" for path in paths)
    return target


def _packable(root: Path, changes: Changes, target: Path) -> Iterator[str]:
    free = shutil.disk_usage(target.parent).free
    for path in changes.present:
        about = (root / path).lstat()
        # A socket is nothing without its process, and CRIU makes it anew: no tar holds one.
        if stat.S_ISSOCK(about.st_mode):
            continue
        # Holes are none any more where Podman unpacks them.
        if stat.S_ISREG(about.st_mode) and about.st_size > free:
            msg = (
                f"/{path} in the container has {about.st_size >> 20} MiB, holes included, and "
                f"each node needs room for all of it: {free >> 20} MiB are free. Make it smaller "
                "before the checkpoint, or put it into a volume"
            )
            raise VolumeError(msg)
        yield path


def _add(export: Path, diff: Path, gone: list[str]) -> None:
    with _appended(export) as tar:
        tar.add(diff, arcname=ROOT_FS_DIFF, filter=_private)
        _add_member(tar, DELETED_FILES, json.dumps([f"/{path}" for path in gone]))


def _add_text(export: Path, name: str, text: str) -> None:
    with _appended(export) as tar:
        _add_member(tar, name, text)


@contextlib.contextmanager
def _appended(export: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(export, "a:") as tar:
            yield tar
    except tarfile.TarError as error:
        msg = f"Podman's export is no whole tar: {error}"
        raise VolumeError(msg) from error


def _add_member(tar: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode(errors="surrogateescape")
    member = _private(tarfile.TarInfo(name))
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _private(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mode, member.uid, member.gid, member.uname, member.gname = 0o600, 0, 0, "", ""
    return member
