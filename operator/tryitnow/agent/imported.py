"""Thawing from the archive itself: ``podman container restore --import``, the plain way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tryitnow.agent.archive import ArchiveName
from tryitnow.agent.bundle import CONTAINERS, VOLUMES, chunks_of, point_at_volumes
from tryitnow.agent.names import ContainerName
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox import Sandbox
from tryitnow.agent.sandboxes import opened
from tryitnow.agent.slot import Filled
from tryitnow.agent.sources import read_sources
from tryitnow.agent.unpack import extract, unpack
from tryitnow.api.checkpoint import Archive, Blueprint
from tryitnow.background import all_together, in_thread


async def import_archive(
    node: Node,
    name: ContainerName,
    file: ArchiveName,
    archive: Archive,
    blueprint: Blueprint,
    *,
    ready: Callable[[], None],
) -> Filled:
    """Thaw a copy from its archive, under that name. ``ready`` is called when images are present.

    Raises:
        ArchiveError: the archive is missing or damaged; nothing was thawed.
        UnpackError: it is not laid out as expected.
        ImagePullError: an image below it cannot be had.
        PodmanError: the thaw failed; a CRIUError carries the tail of CRIU's log.
        SandboxError: its pod cannot be made.
        NoPortError: the node's range of ports is used up.

    """
    for image in {archive.image, *archive.images.values()}:
        await node.podman.ensure_image(image)
    ready()
    sealed = Sandbox.is_sealed(blueprint)
    async with opened(node, name, blueprint, sealed=sealed) as sandbox:
        if sandbox.pod is not None:
            return await _import_pod(node, name, file, archive, blueprint, sandbox)
        criu = await node.podman.restore_import(
            str(name),
            blueprint.freezing,
            sandbox.ports,
            lambda: node.archives.read(file, archive),
        )
        return Filled(sandbox, criu)


async def _import_pod(
    node: Node,
    name: ContainerName,
    file: ArchiveName,
    archive: Archive,
    blueprint: Blueprint,
    sandbox: Sandbox,
) -> Filled:
    pod = sandbox.pod
    assert pod is not None
    # Apart first: which bytes are right is known at the end of the archive only, and the imports
    # want their parts of it at the same time.
    scratch_name = f"{file.stem}.{pod.tag}"
    try:
        scratch = await in_thread(node.data.begin, scratch_name)
        await in_thread(unpack, node.archives.read(file, archive), file.compression, scratch)
        sources = await read_sources(node.kubernetes, name.owner.namespace, blueprint.template)
        await in_thread(_place_volumes, node, sandbox, blueprint, scratch)
        await in_thread(node.volumes.write, pod.tag, sources.files)
        took = await all_together(
            node.podman.restore_import(
                own,
                blueprint.freezing,
                (),
                lambda container=container: chunks_of(scratch / CONTAINERS / f"{container}.tar"),  # type: ignore[misc]
                pod=str(pod),
            )
            for container, own in sandbox.containers(name, blueprint).items()
        )
    finally:
        await in_thread(node.data.abandon, scratch_name)
    return Filled(sandbox, max(took))


def _place_volumes(node: Node, sandbox: Sandbox, blueprint: Blueprint, scratch: Path) -> None:
    assert sandbox.pod is not None
    tag = sandbox.pod.tag
    for volume in blueprint.template.volumes:
        if volume.empty_dir is not None:
            part = scratch / VOLUMES / f"{volume.name}.tar"
            extract(part, node.volumes.path(tag, volume.name))
    for container in blueprint.template.members:
        if container.volume_mounts:
            export = scratch / CONTAINERS / f"{container.name}.tar"
            point_at_volumes(export, node.volumes.directory / tag)
            # A subPath is made where it is missing.
            node.volumes.mounts(tag, blueprint.template, container)
