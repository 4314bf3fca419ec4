"""Doing once per node and revision what ``podman container restore --import`` does for each copy.

An import reads the archive several times, unpacks it, and writes the changes of the root file
system into the new container's layer (podman issue 25662). Here the archive is unpacked once and
its root file system becomes an image, whose layers all copies share. What is left for each copy
is an archive of a few KiB in which the directory with CRIU's images is a link to the unpacked one.

This leans on one thing that Podman does not promise: that an import keeps such a link. Where a
version does not, the restore fails and the next rung of the ladder takes over; the system tests
ask for this one by name.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from tryitnow.agent.archive import ArchiveName
from tryitnow.agent.names import Role, work_container
from tryitnow.agent.node import Node
from tryitnow.agent.prepared import REPOSITORY, RESTORE_TAR, Prepared, image_tag
from tryitnow.agent.unpack import (
    CHECKPOINT,
    CONFIG_DUMP,
    DELETED_FILES,
    DEV_SHM,
    ROOT_FS_DIFF,
    SPEC_DUMP,
    UnpackError,
    apply_diff,
    unpack,
)
from tryitnow.api.checkpoint import Archive
from tryitnow.api.nodecheckpoint import NodeCheckpoint


async def prepare(
    node: Node, copy: NodeCheckpoint, file: ArchiveName, archive: Archive
) -> Prepared:
    """Prepare a copy's archive for quick restores.

    Raises:
        ArchiveError: the archive is missing or damaged.
        UnpackError: it is not laid out as expected, or the disk is full.
        PodmanError: the image cannot be made.
        OSError: the disk is full or broken.

    """
    name = str(work_container(Role.PREPARE, copy))
    node.preparing.add(name)
    try:
        unfinished = await asyncio.to_thread(node.data.begin, file.stem)
        chunks = node.archives.read(file, archive)
        await asyncio.to_thread(unpack, chunks, file.compression, unfinished)
        tag = image_tag(archive.sha256)
        image = await node.podman.build_image(
            name, archive.image, REPOSITORY, tag, lambda root: _fill(unfinished, root)
        )
        reference = f"{REPOSITORY}:{tag}"
        final = node.data.path(file.stem)
        await asyncio.to_thread(_write_restore_tar, unfinished, final, reference, image)
        await asyncio.to_thread(_drop_the_rest, unfinished)
        return await asyncio.to_thread(node.data.finish, file.stem, archive.sha256, reference)
    finally:
        node.preparing.discard(name)


def _fill(unpacked: Path, root: Path) -> None:
    """Bring an image's root file system to what it was at the freeze."""
    diff = unpacked / ROOT_FS_DIFF
    if diff.exists():
        apply_diff(diff, root)
    deleted = unpacked / DELETED_FILES
    if not deleted.exists():
        return
    names: list[str] = json.loads(deleted.read_text())
    for name in names:
        _delete(root, name)


def _delete(root: Path, name: str) -> None:
    path = root / name.lstrip("/")
    # A link on the way could lead out of the container's root.
    if not path.parent.resolve().is_relative_to(root.resolve()):
        msg = f"{DELETED_FILES} names {name}, which lies outside of the root file system"
        raise UnpackError(msg)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_restore_tar(unpacked: Path, final: Path, image: str, image_id: str) -> None:
    """Write the archive that is imported for each copy."""
    try:
        config: dict[str, Any] = json.loads((unpacked / CONFIG_DUMP).read_text())
        specification = (unpacked / SPEC_DUMP).read_bytes()
    except (OSError, ValueError) as error:
        msg = f"the archive is not laid out as Podman 4 and 5 do it: {error}"
        raise UnpackError(msg) from error
    if not (unpacked / CHECKPOINT / "inventory.img").exists():
        msg = f"the archive has no {CHECKPOINT}/inventory.img, so it holds no CRIU images"
        raise UnpackError(msg)
    config |= {"rootfsImageName": image, "rootfsImageID": image_id}
    with tarfile.open(unpacked / RESTORE_TAR, "w") as tar:
        # Podman looks for the configuration first, and reads on until it has both.
        _add(tar, CONFIG_DUMP, json.dumps(config).encode())
        _add(tar, SPEC_DUMP, specification)
        link = tarfile.TarInfo(CHECKPOINT)
        link.type = tarfile.SYMTYPE
        link.linkname = str(final / CHECKPOINT)
        tar.addfile(link)
        shared_memory = unpacked / DEV_SHM
        if shared_memory.exists():
            tar.add(shared_memory, DEV_SHM)
    (unpacked / RESTORE_TAR).chmod(0o600)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o600
    tar.addfile(member, io.BytesIO(content))


def _drop_the_rest(unpacked: Path) -> None:
    for path in unpacked.iterdir():
        if path.name in {CHECKPOINT, RESTORE_TAR}:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


async def unprepare(node: Node, copy: NodeCheckpoint, file: ArchiveName) -> None:
    """Remove what was prepared for a copy; running instances of it are not disturbed.

    Its image stays while one of them needs it, and is collected afterwards.
    """
    node.prepared.pop(copy.key, None)
    await asyncio.to_thread(node.data.remove, file.stem)
    await node.podman.remove(str(work_container(Role.PREPARE, copy)))
    archive = copy.status.archive
    if archive is not None:
        await node.podman.remove_image(f"{REPOSITORY}:{image_tag(archive.sha256)}")
