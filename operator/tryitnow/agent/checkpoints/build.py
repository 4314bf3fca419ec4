"""Building a checkpoint on this node: start, wait until ready, warm up, freeze.

The application is frozen while it runs: a stopped container cannot be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp

from tryitnow.agent.coldstart import Started, cold_start
from tryitnow.agent.freeze import freeze
from tryitnow.agent.gate import GateError
from tryitnow.agent.hooks import HookError, run_hooks
from tryitnow.agent.inside import reached
from tryitnow.agent.names import ContainerName, Role, work_container
from tryitnow.agent.node import Node
from tryitnow.agent.ports import NoPortError
from tryitnow.agent.probe import NotReadyError
from tryitnow.agent.restore import archive_name
from tryitnow.agent.sandbox import SandboxError
from tryitnow.agent.sandboxes import discard
from tryitnow.agent.sources import SourceError
from tryitnow.agent.volumes import VolumeError
from tryitnow.api.checkpoint import Archive, Blueprint
from tryitnow.api.meta import now
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import in_thread
from tryitnow.podman.errors import (
    CRIUError,
    ImagePullError,
    PodmanError,
    PodmanUnreachableError,
)

_CHUNK_BYTES = 64 << 10

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
        await tell(f"starting {blueprint.main.image} and waiting until it is ready")
        started = await _start(node, name, blueprint)
        if blueprint.warm_up is not None:
            await tell(f"warming up with {len(blueprint.warm_up.paths)} paths")
            await _warm_up(node, blueprint, started)
        if blueprint.hooks.before_checkpoint:
            await tell("running spec.hooks.beforeCheckpoint")
            await _run_hooks(node, name, blueprint, started)
        await tell("freezing")
        return await _freeze(node, name, copy, started)
    finally:
        await discard(node, name)


async def _start(node: Node, name: ContainerName, blueprint: Blueprint) -> Started:
    try:
        return await cold_start(node, name, blueprint)
    except ImagePullError as error:
        raise BuildError("ImagePullFailed", str(error)) from error
    except NotReadyError as error:
        msg = f"spec.readiness: {error}"
        raise BuildError("ApplicationNotReady", msg) from error
    except NoPortError as error:
        raise BuildError("NoPort", str(error)) from error
    except SourceError as error:
        raise BuildError("SourceMissing", str(error)) from error
    except GateError as error:
        raise BuildError("GateFailed", str(error)) from error
    except SandboxError as error:
        raise BuildError("VolumeFailed", str(error)) from error
    except PodmanUnreachableError:
        raise
    except PodmanError as error:
        raise BuildError("StartFailed", str(error)) from error


async def _warm_up(node: Node, blueprint: Blueprint, started: Started) -> None:
    warm_up = blueprint.warm_up
    if warm_up is None:
        return
    async with reached(node, blueprint, started.sandbox) as (session, target):
        for path in [path for _ in range(warm_up.rounds) for path in warm_up.paths]:
            try:
                async with session.get(
                    target.base_url + path,
                    headers=target.headers,
                    timeout=WARM_UP_TIMEOUT,
                    allow_redirects=False,
                ) as answer:
                    async for _ in answer.content.iter_chunked(_CHUNK_BYTES):
                        pass  # of its answer nothing is needed but that it was given
                    failed = f"answered {answer.status}" if answer.status >= 500 else None
            except (aiohttp.ClientError, TimeoutError) as error:
                failed = f"did not answer: {type(error).__name__} {error}".rstrip()
            if failed:
                msg = f"spec.warmUp.paths: {path} {failed}; correct the path or the application"
                raise BuildError("WarmUpFailed", msg)


async def _run_hooks(
    node: Node, name: ContainerName, blueprint: Blueprint, started: Started
) -> None:
    hooks = blueprint.hooks.before_checkpoint
    try:
        await run_hooks(node, "beforeCheckpoint", hooks, name, blueprint, started.sandbox, {})
    except HookError as error:
        raise BuildError("HookFailed", str(error)) from error


async def _freeze(
    node: Node, name: ContainerName, copy: NodeCheckpoint, started: Started
) -> Archive:
    file = archive_name(copy)
    blueprint = copy.spec.blueprint
    try:
        helper = work_container(Role.PREPARE, copy)
        written = await freeze(node, name, helper, blueprint, started.sandbox, file)
    except CRIUError as error:
        raise BuildError("CheckpointFailed", f"CRIU cannot freeze it: {error}") from error
    except PodmanUnreachableError:
        raise
    except PodmanError as error:
        raise BuildError("CheckpointFailed", f"Podman cannot freeze it: {error}") from error
    except (VolumeError, OSError) as error:
        msg = (
            f"the archive cannot be written to {node.archives.directory}: {error}; "
            f"{node.archives.free_bytes() >> 20} MiB are free there"
        )
        raise BuildError("WriteFailed", msg) from error
    archive = Archive(
        sha256=written.sha256,
        size_bytes=written.size_bytes,
        image=started.images[blueprint.main.name],
        images=_images(blueprint, started),
        created=now(),
        versions=node.health.versions,
    )
    await in_thread(node.archives.describe, file, archive, blueprint)
    return archive


def _images(blueprint: Blueprint, started: Started) -> dict[str, str]:
    members = [member.name for member in blueprint.template.members]
    return {name: started.images[name] for name in members} if len(members) > 1 else {}
