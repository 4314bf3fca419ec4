"""Unpacking an archive once for all restores on the node, and making images of its root files.

Podman's import reads the archive several times, unpacks it, and writes the changes of the root
file system into each new container's layer (podman issue 25662). Here the archive is unpacked once
and its root file system becomes an image, whose layers all restores share.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.errors import UnpackError
from tryitnow.agent.restore.images import ensure_images
from tryitnow.agent.sandbox.names import Role, work_name
from tryitnow.agent.storage.archives import ArchiveName, is_bundle
from tryitnow.agent.storage.bundle import CONTAINERS, VOLUMES
from tryitnow.agent.storage.generations import (
    CHECKPOINTED_VOLUMES,
    REPOSITORY,
    Generation,
    image_tag,
)
from tryitnow.agent.storage.unpack import (
    CHECKPOINT,
    DELETED_FILES,
    DEV_SHM,
    HOSTS,
    ROOT_FS_DIFF,
    extract,
    is_new_dev_shm,
    unpack,
)
from tryitnow.agent.storage.wipe import Remover
from tryitnow.api.archive import BYTES_PER_ENTRY, Archive
from tryitnow.api.definition import Definition
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import in_thread, made_in_thread

_UNPACK_SHARE = 2
"""Room that unpacking needs, in unpacked bytes: the tar of a container and its files, or its
changed files and the image of them, lie side by side for a while."""


async def prepare(
    tools: CheckpointTools,
    node_checkpoint: NodeCheckpoint,
    definition: Definition,
    file: ArchiveName,
    archive: Archive,
) -> Generation:
    """Make a new generation of an archive.

    Raises:
        ArchiveError: the archive is missing or damaged.
        NodeShortError: the disk has no room for what it unpacks to; nothing was written.
        UnpackError: it is not laid out as expected.
        SourceError: a Secret for pulls cannot be used.
        PodmanError: an image cannot be made.
        OSError: the disk is full or broken.

    """
    helper = work_name(Role.PREPARE, node_checkpoint)
    needed = _UNPACK_SHARE * archive.unpacked_bytes + BYTES_PER_ENTRY * archive.entries
    with tools.disk.reserved(needed, f"unpacking {file}"):
        begin = partial(tools.generations.begin, file.stem)
        async with made_in_thread(begin, tools.generations.abandon) as unfinished:
            async with tools.start.sandboxes.in_work(helper):
                await in_thread(_lay_out, tools, definition, file, archive, unfinished)
                images = await _make_images(
                    tools,
                    str(helper),
                    node_checkpoint.key.namespace,
                    definition,
                    archive,
                    unfinished,
                )
            return await in_thread(tools.generations.finish, unfinished, archive.sha256, images)


async def _make_images(
    tools: CheckpointTools,
    helper: str,
    namespace: str,
    definition: Definition,
    archive: Archive,
    unfinished: Path,
) -> dict[str, str]:
    images: dict[str, str] = {}
    bases = [archive.image_of(member.name) for member in definition.template.members]
    await ensure_images(tools.start, namespace, definition, bases)
    number = tools.generations.number_of(unfinished)
    for container in (member.name for member in definition.template.members):
        unpacked = unfinished / container
        _expect_criu_images(unpacked)
        tag = image_tag(archive.sha256, number, container)
        await tools.start.podman.build_image(
            helper,
            archive.image_of(container),
            REPOSITORY,
            tag,
            lambda root, unpacked=unpacked: fill_root(unpacked, root),  # type: ignore[misc]
        )
        images[container] = f"{REPOSITORY}:{tag}"
        await in_thread(_drop_the_rest, unpacked, tools.generations.remover)
    return images


def _lay_out(
    tools: CheckpointTools,
    definition: Definition,
    file: ArchiveName,
    archive: Archive,
    target: Path,
) -> None:
    """Unpack each container's export, and each volume, into a directory of its own. Blocking."""
    chunks = tools.archives.read(file, archive)
    if not is_bundle(definition):
        inner = target / definition.main.name
        inner.mkdir()
        unpack(chunks, file.compression, inner)
        return
    unpack(chunks, file.compression, target)
    for kind, home in ((CONTAINERS, target), (VOLUMES, target / CHECKPOINTED_VOLUMES)):
        for part in sorted((target / kind).glob("*.tar")):
            inner = home / part.stem
            inner.mkdir(parents=True)
            extract(part, inner)
            tools.generations.remover.file(part)
        if (target / kind).exists():
            (target / kind).rmdir()


def fill_root(unpacked: Path, root: Path) -> None:
    """Bring an image's root file system to what the container's was at the checkpoint. Blocking.

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


def _drop_the_rest(unpacked: Path, remover: Remover) -> None:
    """Remove what no restore needs."""
    needed = {CHECKPOINT, DEV_SHM, HOSTS}
    if (unpacked / DEV_SHM).exists() and is_new_dev_shm(unpacked / DEV_SHM):
        # Podman (5.8) starts a program of its own to unpack it: a sixth of a restore.
        needed.remove(DEV_SHM)
    for path in unpacked.iterdir():
        if path.name not in needed:
            remover.tree(path)


async def retire(tools: CheckpointTools, generation: Generation) -> None:
    """Remove the files and images of a generation that nobody uses any more.

    An image stays while a running demo needs it, and is collected afterwards.
    """
    try:
        # First: a directory that is gone leaves its number, and so the names of its images, to the
        # next generation.
        for image in generation.images.values():
            await tools.start.podman.remove_image(image)
    finally:
        await in_thread(tools.generations.remove, generation.directory)
