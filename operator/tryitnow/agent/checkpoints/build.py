"""Building a revision's archive: start, wait until ready, warm up, checkpoint.

The application is checkpointed while it runs: a stopped container cannot be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from tryitnow.agent.checkpoints.checkpoint import checkpoint
from tryitnow.agent.checkpoints.failures import BuildError
from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.checkpoints.workplace import workplace
from tryitnow.agent.errors import NodeShortError
from tryitnow.agent.restore.cold_start import ColdStarted, cold_start
from tryitnow.agent.sandbox.names import Role, work_name
from tryitnow.agent.storage.archives import ArchiveName
from tryitnow.api.archive import Archive
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.definition import Definition
from tryitnow.api.limits import CHECKPOINT_TOO_LARGE
from tryitnow.api.meta import now
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import in_thread
from tryitnow.settings import AgentSettings

_CHUNK_BYTES = 64 << 10

WARM_UP_TIMEOUT = aiohttp.ClientTimeout(total=120)
"""For one request: the first page of a heavy shop compiles its templates."""

Report = Callable[[str], None]
"""Called with what is being done, for people."""


@dataclass(frozen=True)
class Built:
    """An archive that was built, and the images that it was built from."""

    archive: Archive
    images: dict[str, str]


async def build(
    tools: CheckpointTools,
    node_checkpoint: NodeCheckpoint,
    revision: CheckpointRevision,
    file: ArchiveName,
    report: Report,
) -> Built:
    """Start the application, checkpoint it when it is warm, and write the archive.

    Raises:
        BuildError: the application or its definition is to blame.
        Any error of ``cold_start`` and ``checkpoint``.

    """
    definition = revision.definition
    name = work_name(Role.BUILD, node_checkpoint)
    if problem := tools.start.sandboxes.outbound.not_allowed(definition.network):
        raise BuildError(problem.reason, problem.message)
    async with workplace(tools.start.sandboxes, name):
        report(f"starting {definition.main.image} and waiting until it is ready")
        started = await cold_start(
            tools.start, name, definition, revision.status.images, newest=True
        )
        for problem in tools.start.sandboxes.outbound.problems_of(definition.network):
            about = tools.start.kubernetes
            about.event(node_checkpoint, problem.reason, problem.message, warning=True)
        if definition.warm_up is not None:
            report(f"warming up with {len(definition.warm_up.paths)} paths")
            await _warm_up(tools, definition, started)
        if definition.hooks.before_checkpoint:
            report("running spec.hooks.beforeCheckpoint")
            await tools.start.hooks.run(
                "beforeCheckpoint",
                definition.hooks.before_checkpoint,
                name,
                definition,
                started.running.sandbox,
                {},
            )
        report("checkpointing")
        made = await checkpoint(
            tools.start,
            tools.archives,
            tools.generations,
            tools.disk,
            name,
            work_name(Role.PREPARE, node_checkpoint),
            definition,
            started.running.sandbox,
            file,
        )
    members = [member.name for member in definition.template.members]
    archive = Archive(
        sha256=made.written.sha256,
        size_bytes=made.written.size_bytes,
        unpacked_bytes=made.contents.unpacked_bytes,
        entries=made.contents.entries,
        memory_bytes=made.contents.memory_bytes,
        image=started.images[definition.main.name],
        images={m: started.images[m] for m in members} if len(members) > 1 else {},
        created=now(),
        versions=tools.start.health.current.versions,
    )
    try:
        expect_size(tools.settings, archive)
    except NodeShortError:
        await in_thread(tools.archives.remove, file)
        raise
    await in_thread(tools.archives.describe, file, archive, definition)
    return Built(archive, started.images)


def expect_size(settings: AgentSettings, archive: Archive) -> None:
    """Check that an archive takes no more of a node than one revision may.

    Raises:
        NodeShortError: it takes more; the message has both sizes.

    """
    needed, most = archive.node_bytes, settings.max_checkpoint_bytes
    if needed <= most:
        return
    msg = (
        f"the checkpoint takes {needed >> 20} MiB of a node, with its unpacked files, and one may "
        f"take {most >> 20} MiB (agent.maxCheckpointSize): have the application use less memory "
        "and write fewer files before the checkpoint, or raise agent.maxCheckpointSize"
    )
    raise NodeShortError(CHECKPOINT_TOO_LARGE, msg)


async def _warm_up(tools: CheckpointTools, definition: Definition, started: ColdStarted) -> None:
    warm_up = definition.warm_up
    assert warm_up is not None
    sandbox = started.running.sandbox
    async with tools.start.prober.inside(definition, sandbox) as (session, target):
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
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                failed = f"did not answer: {type(error).__name__} {error}".rstrip()
            if failed:
                msg = f"spec.warmUp.paths: {path} {failed}; correct the path or the application"
                raise BuildError("WarmUpFailed", msg)
