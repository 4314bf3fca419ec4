"""The jobs of an actor: each does one long thing, and returns how it changes the state.

A job never changes the state itself: the actor does, when the job has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from tryitnow.agent.checkpoints.build import Tell, build
from tryitnow.agent.checkpoints.failures import Job
from tryitnow.agent.checkpoints.prepare import prepare, retire
from tryitnow.agent.checkpoints.state import State
from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.checkpoints.verify import verify
from tryitnow.agent.errors import ArchiveError
from tryitnow.agent.revisions import RevisionError
from tryitnow.agent.sandbox.names import Role, work_name
from tryitnow.agent.storage.archives import ArchiveName
from tryitnow.agent.storage.generations import Generation
from tryitnow.api.archive import Archive
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.background import in_thread
from tryitnow.kubernetes.errors import NotFoundError

Change = Callable[[State], None]
"""Changes the state as a job found it."""


async def run_job(tools: CheckpointTools, job: Job, state: State, tell: Tell) -> Change:
    """Do a job on a snapshot of the state.

    Raises:
        Any of ``failures.EXPECTED``.

    """
    snapshot = replace(state)
    match job:
        case Job.ADOPT:
            return await _adopt(tools, snapshot)
        case Job.REMOVE:
            return await _remove(tools, snapshot)
    revision, file = _known(snapshot)
    match job:
        case Job.BUILD:
            async with tools.builds:
                return await _build(tools, snapshot, revision, file, tell)
        case Job.FETCH:
            async with tools.fetches:
                return await _fetch(tools, snapshot, revision, file, tell)
        case Job.PREPARE:
            async with tools.unpackings:
                tell("unpacking the archive")
                return await _prepare(tools, snapshot, revision, file)
        case Job.VERIFY:
            tell("test restore")
            return await _verify(tools, snapshot, revision)
        case Job.SCRUB:
            async with tools.readings:
                return await _scrub(tools, snapshot, file)
    raise AssertionError(job)


def _known(state: State) -> tuple[CheckpointRevision, ArchiveName]:
    assert state.revision is not None, "ADOPT comes first"
    assert state.file is not None
    return state.revision, state.file


async def _adopt(tools: CheckpointTools, state: State) -> Change:
    """Find what an agent before this one left. Nothing is read through: that is SCRUB's."""
    revision = await tools.revisions.get(state.resource.revision_key)
    file = replace(state, revision=revision).file
    assert file is not None
    status, archive = state.resource.status, state.resource.status.archive
    signature = tools.archives.signature(file)
    generation: Generation | None = None
    is_here = archive is not None and signature is not None and signature[1] == archive.size_bytes
    if archive is not None and is_here:
        generation = await asyncio.to_thread(tools.generations.find, file.stem, archive.sha256)
        if generation is not None and not await _has_images(tools, generation):
            generation = None
    for role in (Role.BUILD, Role.VERIFY):
        await tools.start.sandboxes.remove(work_name(role, state.resource))

    def change(state: State) -> None:
        state.revision = revision
        state.adopted = True
        if archive is not None and is_here:
            state.has_archive(archive, signature)
            # Its digest was right when it was written; SCRUB reads it soon, and after the demos.
            state.checked_at = float("-inf")
            state.generation = generation
            state.verified_with = status.verified_with
            state.restore_failures = status.restore_failures
        state.images = dict(status.images)
        state.build_duration = status.build_duration

    return change


async def _has_images(tools: CheckpointTools, generation: Generation) -> bool:
    found = [await tools.start.podman.has_image(image) for image in generation.images.values()]
    return all(found)


async def _build(
    tools: CheckpointTools,
    state: State,
    revision: CheckpointRevision,
    file: ArchiveName,
    tell: Tell,
) -> Change:
    built = await build(tools, state.resource, revision, file, tell)
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
    tell: Tell,
) -> Change:
    order = state.resource.spec.fetch
    assert order is not None
    sources = ", ".join(source.node_name for source in order.sources)
    tell(f"fetching the archive from {sources}")
    await tools.fetcher.fetch(file, order, revision.definition)
    for image in {order.archive.image, *order.archive.images.values()}:
        await tools.start.podman.ensure_image(image)
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
    """Read the archive through, and look whether what is unpacked from it is whole."""
    archive, generation = state.archive, state.generation
    assert archive is not None
    signature = tools.archives.signature(file)
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
        # Taken before the reading: a change meanwhile is found by the next look.
        state.checked, state.checked_at, state.touched = signature, state.clock(), False
        if not intact and state.generation is generation:
            state.generation = None

    return change


async def _remove(tools: CheckpointTools, state: State) -> Change:
    """Remove all that this node has of the revision."""
    for role in (Role.BUILD, Role.VERIFY):
        await tools.start.sandboxes.remove(work_name(role, state.resource))
    await tools.start.podman.remove(str(work_name(Role.PREPARE, state.resource)))
    if state.generation is not None:
        await _until_unused(state.generation)
        await retire(tools, state.generation)
    file = await _file_of(tools, state)
    if file is not None:
        await in_thread(tools.generations.remove_all, file.stem)
        await in_thread(tools.archives.remove, file)
    await tools.start.kubernetes.remove_finalizer(state.resource)

    def change(state: State) -> None:
        state.archive = state.generation = None

    return change


async def _until_unused(generation: Generation) -> None:
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
