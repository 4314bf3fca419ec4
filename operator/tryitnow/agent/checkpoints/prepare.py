"""Doing once per node and revision what ``podman container restore --import`` does for each copy.

An import reads the archive several times, unpacks it, and writes the changes of the root file
system into the new container's layer (podman issue 25662). Here the archive is unpacked once and
its root file system becomes an image, whose layers all copies share. What is left for each copy
is a container on that image (``slot``), into which CRIU reads the unpacked pages.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tryitnow.agent.archive import ArchiveName
from tryitnow.agent.bundle import CONTAINERS, VOLUMES
from tryitnow.agent.names import Role, work_container
from tryitnow.agent.node import Node
from tryitnow.agent.prepared import FROZEN_VOLUMES, REPOSITORY, Prepared, image_tag
from tryitnow.agent.slot import drop_slots
from tryitnow.agent.unpack import (
    CHECKPOINT,
    DELETED_FILES,
    DEV_SHM,
    ROOT_FS_DIFF,
    UnpackError,
    extract,
    unpack,
)
from tryitnow.api.checkpoint import Archive, Blueprint
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import in_thread


async def prepare(
    node: Node, copy: NodeCheckpoint, file: ArchiveName, archive: Archive
) -> Prepared:
    """Prepare a copy's archive for quick restores.

    Raises:
        ArchiveError: the archive is missing or damaged.
        UnpackError: it is not laid out as expected, or the disk is full.
        PodmanError: an image cannot be made.
        OSError: the disk is full or broken.

    """
    name = str(work_container(Role.PREPARE, copy))
    blueprint = copy.spec.blueprint
    node.preparing.add(name)
    try:
        unfinished = await in_thread(node.data.begin, file.stem)
        await in_thread(_lay_out, node, blueprint, file, archive, unfinished)
        images: dict[str, str] = {}
        for container in (member.name for member in blueprint.template.members):
            unpacked = unfinished / container
            _expect_criu_images(unpacked)
            tag = image_tag(archive.sha256, container)
            await node.podman.build_image(
                name,
                archive.image_of(container),
                REPOSITORY,
                tag,
                lambda root, unpacked=unpacked: fill_root(unpacked, root),  # type: ignore[misc]
            )
            images[container] = f"{REPOSITORY}:{tag}"
            await in_thread(_drop_the_rest, unpacked)
        return await in_thread(node.data.finish, file.stem, archive.sha256, images)
    finally:
        await in_thread(node.data.abandon, file.stem)
        node.preparing.discard(name)


def _lay_out(
    node: Node, blueprint: Blueprint, file: ArchiveName, archive: Archive, target: Path
) -> None:
    """Unpack each container's export, and each volume, into a directory of its own. Blocking."""
    chunks = node.archives.read(file, archive)
    if not blueprint.needs_pod:
        inner = target / blueprint.main.name
        inner.mkdir()
        unpack(chunks, file.compression, inner)
        return
    unpack(chunks, file.compression, target)
    for kind, home in ((CONTAINERS, target), (VOLUMES, target / FROZEN_VOLUMES)):
        for part in sorted((target / kind).glob("*.tar")):
            inner = home / part.stem
            inner.mkdir(parents=True)
            extract(part, inner)
            part.unlink()
        if (target / kind).exists():
            (target / kind).rmdir()


def fill_root(unpacked: Path, root: Path) -> None:
    """Bring an image's root file system to what the container's was at the freeze. Blocking.

    Raises:
        UnpackError: the changes are not laid out as expected, or the disk is full.

    """
    deleted, diff = unpacked / DELETED_FILES, unpacked / ROOT_FS_DIFF
    names: list[str] = json.loads(deleted.read_text()) if deleted.exists() else []
    # Before: exports as Podman makes them call a directory that was made again deleted.
    for name in names:
        _delete(root, name)
    if diff.exists():
        extract(diff, root)
    # And after: ours bring a file in the place of a link that is to be deleted.
    for name in names:
        if not (root / name.lstrip("/")).is_dir():
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


def _expect_criu_images(unpacked: Path) -> None:
    if not (unpacked / CHECKPOINT / "inventory.img").exists():
        msg = (
            f"the archive has no {CHECKPOINT}/inventory.img: "
            "it is not laid out as Podman 4 and 5 do it"
        )
        raise UnpackError(msg)


def _drop_the_rest(unpacked: Path) -> None:
    for path in unpacked.iterdir():
        if path.name in {CHECKPOINT, DEV_SHM}:
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
    await drop_slots(node, copy.key)
    await in_thread(node.data.remove, file.stem)
    await node.podman.remove(str(work_container(Role.PREPARE, copy)))
    archive = copy.status.archive
    if archive is not None:
        for member in copy.spec.blueprint.template.members:
            tag = image_tag(archive.sha256, member.name)
            await node.podman.remove_image(f"{REPOSITORY}:{tag}")
