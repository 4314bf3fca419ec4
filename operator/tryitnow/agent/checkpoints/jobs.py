"""The jobs of an actor: each does one long thing, and returns how it changes the state.

A job never changes the state itself: the actor does, when the job has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from tryitnow.agent.checkpoints.build import Report, build, expect_size
from tryitnow.agent.checkpoints.failures import Blame, Failure, Job
from tryitnow.agent.checkpoints.prepare import prepare, retire
from tryitnow.agent.checkpoints.state import State
from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.checkpoints.verify import verify
from tryitnow.agent.errors import ArchiveError
from tryitnow.agent.restore.images import ensure_images
from tryitnow.agent.revisions import RevisionError, expect_images
from tryitnow.agent.sandbox.names import Role, waits_for, work_name
from tryitnow.agent.storage.archives import ArchiveName
from tryitnow.agent.storage.generations import Generation
from tryitnow.api.archive import Archive
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.meta import find_condition
from tryitnow.api.nodecheckpoint import (
    NodeCheckpoint,
    NodeCheckpointPhase,
    NodeCheckpointStatus,
)
from tryitnow.background import in_thread
from tryitnow.kubernetes.errors import ConflictError, NotFoundError

Change = Callable[[State], None]
"""Changes the state as a job found it."""


async def run_job(tools: CheckpointTools, job: Job, state: State, report: Report) -> Change:
    """Do a job on a snapshot of the state.

    Raises:
        Any of ``failures.EXPECTED``.

    """
    snapshot = replace(state)
    match job:
        case Job.ADOPT:
            return await _adopt(tools, snapshot)
        case Job.REMOVE:
            return await _remove(tools, state)
    revision, file = _known(snapshot)
    namespace = state.resource.metadata.namespace
    match job:
        case Job.BUILD:
            async with tools.builds.turn(namespace):
                return await _build(tools, snapshot, revision, file, report)
        case Job.FETCH:
            async with tools.fetches.turn(namespace):
                return await _fetch(tools, snapshot, revision, file, report)
        case Job.PREPARE:
            async with tools.unpackings.turn(namespace):
                report("unpacking the archive")
                return await _prepare(tools, snapshot, revision, file)
        case Job.VERIFY:
            report("test restore")
            return await _verify(tools, snapshot, revision)
        case Job.SCRUB:
            async with tools.readings.turn(namespace):
                return await _scrub(tools, snapshot, file)
    raise AssertionError(job)


def _known(state: State) -> tuple[CheckpointRevision, ArchiveName]:
    assert state.revision is not None, "ADOPT comes first"
    assert state.file is not None
    return state.revision, state.file


async def _adopt(tools: CheckpointTools, state: State) -> Change:
    """Find what an agent before this one left. Nothing is read through: that is SCRUB's."""
    revision = await tools.revisions.get(state.resource.revision_key)
    # Before all that follows: nothing is built, fetched, prepared or kept warm of it.
    tools.revisions.expect_allowed(revision)
    file = replace(state, revision=revision).file
    assert file is not None
    status, archive = state.resource.status, state.resource.status.archive
    signature = tools.archives.signature(file)
    generation = state.generation  # of an earlier try: leases on it must count
    is_here = archive is not None and signature is not None and signature[1] == archive.size_bytes
    if archive is not None and is_here and generation is None:
        generation = await asyncio.to_thread(tools.generations.find, file.stem, archive.sha256)
        if generation is not None and not await _has_images(tools, generation):
            generation = None
    for role in (Role.BUILD, Role.VERIFY):
        await tools.start.sandboxes.remove(work_name(role, state.resource))

    def change(state: State) -> None:
        state.revision = revision
        if state.archive is not None:
            return  # of an earlier try: demos have told of it since
        if archive is not None and is_here:
            state.has_archive(archive, signature)
            # Its digest was right when it was written; SCRUB reads it soon, and after the demos.
            state.checked_at = float("-inf")
            state.generation = generation
            state.verified_with = status.verified_with
            state.was_ever_verified = bool(status.verified_with or status.build_duration)
            state.restore_failures = status.restore_failures
        elif archive is not None and state.resource.spec.fetch is None:
            # To be built again by order only: other nodes may hold the very same archive.
            state.note_damaged(_lost(tools, file, archive))
        if status.phase is NodeCheckpointPhase.FAILED:
            state.build_failure = _failed_before(status)
        state.images = dict(status.images)
        state.build_duration = status.build_duration

    return change


def _lost(tools: CheckpointTools, file: ArchiveName, archive: Archive) -> Failure:
    path = tools.archives.path(file)
    message = f"{path}, of {archive.size_bytes} bytes, is missing or has another size"
    return Failure(Blame.ARCHIVE, "ArchiveDamaged", message)


def _failed_before(status: NodeCheckpointStatus) -> Failure:
    """What failed stays so until the controller decides, however often an agent is started."""
    ready = find_condition(status.conditions, "Ready")
    if ready is None:
        return Failure(Blame.APPLICATION, "BuildFailed", "")
    return Failure(Blame.APPLICATION, ready.reason, ready.message)


async def _has_images(tools: CheckpointTools, generation: Generation) -> bool:
    found = [await tools.start.podman.has_image(image) for image in generation.images.values()]
    return all(found)


async def _build(
    tools: CheckpointTools,
    state: State,
    revision: CheckpointRevision,
    file: ArchiveName,
    report: Report,
) -> Change:
    # What was approved once is restored as long as demos need it, and built only while its author
    # has a Checkpoint of it.
    await tools.revisions.expect_live(revision)
    built = await build(tools, state.resource, revision, file, report)
    signature = tools.archives.signature(file)

    def change(state: State) -> None:
        state.has_archive(built.archive, signature)
        state.images = built.images
        state.generation = None

    return change


async def _fetch(
    tools: CheckpointTools,
    state: State,
    revision: CheckpointRevision,
    file: ArchiveName,
    report: Report,
) -> Change:
    order = state.resource.spec.fetch
    assert order is not None
    images = {m.name: order.archive.image_of(m.name) for m in revision.definition.template.members}
    expect_images(revision.definition, images, "the archive that this node is to fetch")
    expect_size(tools.settings, order.archive)
    sources = ", ".join(source.node_name for source in order.sources)
    report(f"fetching the archive from {sources}")
    await tools.fetcher.fetch(file, order, revision.definition)
    await ensure_images(
        tools.start, state.resource.key.namespace, revision.definition, images.values()
    )
    signature = tools.archives.signature(file)

    def change(state: State) -> None:
        replaced = state.archive is None or state.archive.sha256 != order.archive.sha256
        state.has_archive(order.archive, signature)
        if replaced:
            state.generation = None

    return change


async def _prepare(
    tools: CheckpointTools, state: State, revision: CheckpointRevision, file: ArchiveName
) -> Change:
    archive = state.archive
    assert archive is not None
    try:
        generation = await prepare(tools, state.resource, revision.definition, file, archive)
    except ArchiveError:
        await in_thread(tools.archives.remove, file)
        raise

    def change(state: State) -> None:
        state.generation = generation

    return change


async def _verify(tools: CheckpointTools, state: State, revision: CheckpointRevision) -> Change:
    generation = state.generation
    assert generation is not None
    versions = await verify(tools, state.resource, revision.definition, generation)
    return lambda state: state.verified(versions)


async def _scrub(tools: CheckpointTools, state: State, file: ArchiveName) -> Change:
    """Look whether what is unpacked is whole, and read through an archive that may not be."""
    archive, generation = state.archive, state.generation
    assert archive is not None
    signature = tools.archives.signature(file)
    read = state.is_scrub_due or signature is None or signature != state.checked
    if read:
        try:
            await asyncio.to_thread(tools.archives.check, file, archive)
        except ArchiveError:
            await in_thread(tools.archives.remove, file)
            raise
    intact = (
        generation is not None
        and await asyncio.to_thread(generation.is_intact)
        and await _has_images(tools, generation)
    )

    def change(state: State) -> None:
        state.archive_changed = False
        if read:
            # Taken before the reading: a change meanwhile is found by the next look.
            state.checked, state.checked_at = signature, state.clock()
        if not intact and generation is not None and state.generation is generation:
            state.lost_generation()

    return change


async def _remove(tools: CheckpointTools, state: State) -> Change:
    """Remove all that this node has of the revision."""
    sandboxes = tools.start.sandboxes
    for role in (Role.BUILD, Role.VERIFY):
        await sandboxes.remove(work_name(role, state.resource))
    # Also what an agent before this one left waiting, which was not taken over.
    for name, _ in await sandboxes.list_all():
        if any(waits_for(name, role, state.resource) for role in (Role.WARM, Role.PRECREATED)):
            await sandboxes.remove(name)
    await tools.start.podman.remove(str(work_name(Role.PREPARE, state.resource)))
    if state.generation is not None:
        await until_unused(state.generation)
    # Only now: the end of demos that still use it may take long.
    async with tools.removals.turn(state.resource.metadata.namespace):
        if state.generation is not None:
            await retire(tools, state.generation)
        file = await _file_of(tools, state)
        if file is not None:
            await in_thread(tools.generations.remove_all, file.stem)
            await in_thread(tools.archives.remove, file)
    await _let_go(tools, state.resource)

    def change(state: State) -> None:
        state.archive = state.generation = None

    return change


async def _let_go(tools: CheckpointTools, resource: NodeCheckpoint) -> None:
    kubernetes = tools.start.kubernetes
    try:
        await kubernetes.remove_finalizer(resource)
    except ConflictError:
        newest = await kubernetes.get(NodeCheckpoint, resource.key)
        if newest.metadata.uid == resource.metadata.uid:
            await kubernetes.remove_finalizer(newest)


async def until_unused(generation: Generation) -> None:
    """Wait until nobody has a lease."""
    unused = asyncio.Event()
    generation.when_unused(unused.set)
    await unused.wait()


async def _file_of(tools: CheckpointTools, state: State) -> ArchiveName | None:
    """Return the archive's file; None where nobody knows the revision any more.

    Its files are then found as files that nobody owns: deleting always ends.
    """
    if state.file is not None:
        return state.file
    try:
        revision = await tools.revisions.get(state.resource.revision_key)
    except (NotFoundError, RevisionError):
        return None
    return replace(state, revision=revision).file


def archive_of(state: State) -> Archive | None:
    """Return the archive that other nodes may fetch from here."""
    return state.archive if state.damaged is None else None
