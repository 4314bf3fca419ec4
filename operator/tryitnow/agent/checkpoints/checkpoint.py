"""Freezing a running copy into one archive, all of its containers at one moment.

A pod is frozen behind its closed gate: no request is under way that one container knows of and
another does not. What they said to each other and was not heard yet is frozen with the
connections (``spec.criu.tcp``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tryitnow.agent.archive import ArchiveName, Written
from tryitnow.agent.bundle import CONTAINERS, VOLUMES, bundle, chunks_of, pack_volume
from tryitnow.agent.changes import add_changes
from tryitnow.agent.names import ContainerName
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox import Sandbox
from tryitnow.api.checkpoint import Blueprint
from tryitnow.background import all_together, in_thread


async def freeze(
    node: Node,
    name: ContainerName,
    helper: ContainerName,
    blueprint: Blueprint,
    sandbox: Sandbox,
    file: ArchiveName,
) -> Written:
    """Freeze a copy and write its archive. It does not run any more afterwards.

    Args:
        node: Where it runs.
        name: What it is called.
        helper: Name for a container in which to look at its images.
        blueprint: What it is.
        sandbox: Its surroundings.
        file: Name of the archive.

    Raises:
        CRIUError: CRIU refused; the message ends with the tail of its log.
        PodmanError: Podman refused.
        VolumeError, OSError: the disk is full or broken.

    """
    try:
        scratch = await in_thread(node.data.begin, f"{file.stem}.freeze")
        called = sandbox.containers(name, blueprint)
        parts = await _freeze_all(node, called, blueprint, scratch)
        node.preparing.add(str(helper))
        for container, own in called.items():
            await add_changes(node, own, str(helper), parts[f"{CONTAINERS}/{container}.tar"])
        if sandbox.pod is None:
            (export,) = parts.values()
            return await in_thread(node.archives.write, file, chunks_of(export))
        for volume in blueprint.template.volumes:
            if volume.empty_dir is None:
                continue
            target = scratch / f"{volume.name}.{VOLUMES}"
            source = node.volumes.path(sandbox.pod.tag, volume.name)
            await in_thread(pack_volume, source, target)
            parts[f"{VOLUMES}/{volume.name}.tar"] = target
        return await in_thread(node.archives.write, file, bundle(parts))
    finally:
        node.preparing.discard(str(helper))
        await in_thread(node.data.abandon, f"{file.stem}.freeze")


async def _freeze_all(
    node: Node, called: Mapping[str, str], blueprint: Blueprint, scratch: Path
) -> dict[str, Path]:
    async def one(container: str, own: str) -> tuple[str, Path]:
        target = scratch / f"{container}.{CONTAINERS}"
        await node.podman.checkpoint(own, blueprint.freezing, lambda chunks: _write(target, chunks))
        return f"{CONTAINERS}/{container}.tar", target

    return dict(await all_together(one(container, own) for container, own in called.items()))


def _write(target: Path, chunks: Iterator[bytes]) -> None:
    with target.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
