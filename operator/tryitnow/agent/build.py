"""Building a checkpoint on this node: start, wait until ready, warm up, freeze.

The application is frozen while it runs: a stopped container cannot be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp

from tryitnow.agent.coldstart import Started, cold_start
from tryitnow.agent.names import ContainerName, Role, work_container
from tryitnow.agent.node import Node
from tryitnow.agent.ports import NoPortError
from tryitnow.agent.probe import NotReadyError
from tryitnow.agent.restore import archive_name, discard, probe_target
from tryitnow.api.checkpoint import Archive, Blueprint
from tryitnow.api.meta import now
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.podman.errors import (
    CRIUError,
    ImagePullError,
    PodmanError,
    PodmanUnreachableError,
)

WARM_UP_TIMEOUT = aiohttp.ClientTimeout(total=120)
"""For one request: the first page of a heavy shop compiles its templates."""

Tell = Callable[[str], Awaitable[None]]
"""Tells the cluster what is being done."""


class BuildError(Exception):
    """The build failed.

    Attributes:
        reason: One word for programs, such as ImagePullFailed.

    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def build(node: Node, copy: NodeCheckpoint, tell: Tell) -> Archive:
    """Start the application, freeze it when it is warm, and write the archive.

    Raises:
        BuildError: it cannot be built; the message says what to change.
        PodmanUnreachableError: Podman is away; try again when it is back.

    """
    blueprint = copy.spec.blueprint
    name = work_container(Role.BUILD, copy)
    await discard(node, name)
    try:
        await tell(f"starting {blueprint.container.image} and waiting until it is ready")
        started = await _start(node, name, blueprint)
        if blueprint.warm_up is not None:
            await tell(f"warming up with {len(blueprint.warm_up.paths)} paths")
            await _warm_up(node, blueprint, started)
        await tell("freezing")
        return await _freeze(node, name, copy, started.image)
    finally:
        await discard(node, name)


async def _start(node: Node, name: ContainerName, blueprint: Blueprint) -> Started:
    try:
        return await cold_start(node, name, blueprint)
    except ImagePullError as error:
        msg = f"spec.template.containers[0].image: {error}"
        raise BuildError("ImagePullFailed", msg) from error
    except NotReadyError as error:
        msg = f"spec.readiness: {error}"
        raise BuildError("ApplicationNotReady", msg) from error
    except NoPortError as error:
        raise BuildError("NoPort", str(error)) from error
    except PodmanUnreachableError:
        raise
    except PodmanError as error:
        msg = f"spec.template.containers[0]: the container does not start: {error}"
        raise BuildError("StartFailed", msg) from error


async def _warm_up(node: Node, blueprint: Blueprint, started: Started) -> None:
    warm_up = blueprint.warm_up
    if warm_up is None:
        return
    target = probe_target(node, blueprint, started.ports)
    for path in [path for _ in range(warm_up.rounds) for path in warm_up.paths]:
        try:
            async with node.http.get(
                target.base_url + path, headers=target.headers, timeout=WARM_UP_TIMEOUT
            ) as answer:
                await answer.read()
                failed = f"answered {answer.status}" if answer.status >= 500 else None
        except (aiohttp.ClientError, TimeoutError) as error:
            failed = f"did not answer: {type(error).__name__} {error}".rstrip()
        if failed:
            msg = f"spec.warmUp.paths: {path} {failed}; correct the path or the application"
            raise BuildError("WarmUpFailed", msg)


async def _freeze(node: Node, name: ContainerName, copy: NodeCheckpoint, image: str) -> Archive:
    file = archive_name(copy)
    blueprint = copy.spec.blueprint
    try:
        written = await node.podman.checkpoint(
            str(name), blueprint.criu, lambda chunks: node.archives.write(file, chunks)
        )
    except CRIUError as error:
        raise BuildError("CheckpointFailed", f"CRIU cannot freeze it: {error}") from error
    except PodmanUnreachableError:
        raise
    except PodmanError as error:
        raise BuildError("CheckpointFailed", f"Podman cannot freeze it: {error}") from error
    except OSError as error:
        msg = (
            f"the archive cannot be written to {node.archives.directory}: {error}; "
            f"{node.archives.free_bytes() >> 20} MiB are free there"
        )
        raise BuildError("WriteFailed", msg) from error
    archive = Archive(
        sha256=written.sha256,
        size_bytes=written.size_bytes,
        image=image,
        created=now(),
        versions=node.health.versions,
    )
    await asyncio.to_thread(node.archives.describe, file, archive, blueprint)
    return archive
