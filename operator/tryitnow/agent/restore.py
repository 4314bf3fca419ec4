"""Thawing a container on this node: from what is prepared, else from the archive itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from tryitnow.agent import gate
from tryitnow.agent.archive import ArchiveName
from tryitnow.agent.cgroup import CgroupError, gather
from tryitnow.agent.imported import import_archive
from tryitnow.agent.inside import reached
from tryitnow.agent.measure import restore_ended
from tryitnow.agent.names import ContainerName
from tryitnow.agent.node import Node
from tryitnow.agent.prepared import Prepared
from tryitnow.agent.probe import NotReadyError, wait_ready
from tryitnow.agent.sandbox import Sandbox, SandboxError
from tryitnow.agent.sandboxes import discard, is_running
from tryitnow.agent.slot import Filled, fill
from tryitnow.api.checkpoint import Archive, Blueprint
from tryitnow.api.demoinstance import RestoredFrom
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import all_together, in_thread, together
from tryitnow.podman.errors import PodmanCallError, PodmanError, PodmanUnreachableError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unserved:
    """What lay ready for a quick restore and did not serve, where the archive did."""

    prepared: Prepared
    error: Exception

    lost: timedelta
    """Time until that was known."""


@dataclass(frozen=True)
class Thawed:
    """A copy that answers."""

    restored_from: RestoredFrom
    sandbox: Sandbox
    queue: timedelta
    prepare: timedelta
    restore: timedelta
    criu: timedelta
    probe: timedelta


def archive_name(copy: NodeCheckpoint) -> ArchiveName:
    """Return the name of the file in which this copy lies."""
    owner = copy.checkpoint_key
    return ArchiveName(owner, copy.spec.revision, copy.spec.blueprint.criu.compression)


async def thaw(
    node: Node,
    name: ContainerName,
    copy: NodeCheckpoint,
    archive: Archive,
    *,
    urgent: bool = True,
) -> tuple[Thawed, Unserved | None]:
    """Thaw a copy by the quickest way that works, and wait until it answers.

    What is not urgent lets all others pass. Returns it with what was prepared and did not serve,
    where that was so.

    Raises:
        As ``thaw_archive``, whose way is the last.

    """
    prepared = node.prepared.get(copy.key)
    unserved: Unserved | None = None
    began = time.monotonic()
    if prepared is not None:
        try:
            return await _thaw_prepared(node, name, copy, prepared, urgent=urgent), None
        except PodmanUnreachableError:
            raise
        except (PodmanError, NotReadyError, SandboxError, OSError) as error:
            logger.warning("%s: the prepared restore failed, using the archive: %s", name, error)
            lost = timedelta(seconds=time.monotonic() - began)
            unserved = Unserved(prepared, error, lost)
    blueprint, file = copy.spec.blueprint, archive_name(copy)
    return await thaw_archive(node, name, file, archive, blueprint, urgent=urgent), unserved


async def _thaw_prepared(
    node: Node, name: ContainerName, copy: NodeCheckpoint, prepared: Prepared, *, urgent: bool
) -> Thawed:
    async def pages(ready: Callable[[], None]) -> Filled:
        return await fill(node, name, copy, prepared, ready=ready)

    return await _thaw(
        node, archive_name(copy).checkpoint, name, copy.spec.blueprint,
        RestoredFrom.PREPARED, pages, urgent=urgent,
    )  # fmt: skip


async def thaw_archive(
    node: Node,
    name: ContainerName,
    archive_file: ArchiveName,
    archive: Archive,
    blueprint: Blueprint,
    *,
    urgent: bool = True,
) -> Thawed:
    """Thaw a copy from its archive; nothing is left behind when it does not answer.

    Raises:
        ArchiveError: the archive is missing or damaged; nothing was thawed.
        ImagePullError: the image below it cannot be had.
        PodmanError: the thaw failed; a CRIUError carries the tail of CRIU's log.
        NotReadyError: it was thawed and did not answer in ``restoreTimeout``.
        NoPortError: the node's range of ports is used up.
        SandboxError: its pod cannot be made.

    """

    async def whole(ready: Callable[[], None]) -> Filled:
        return await import_archive(node, name, archive_file, archive, blueprint, ready=ready)

    return await _thaw(
        node, archive_file.checkpoint, name, blueprint,
        RestoredFrom.ARCHIVE, whole, urgent=urgent,
    )  # fmt: skip


async def _thaw(
    node: Node,
    checkpoint: Key,
    name: ContainerName,
    blueprint: Blueprint,
    restored_from: RestoredFrom,
    thaw_it: Callable[[Callable[[], None]], Awaitable[Filled]],
    *,
    urgent: bool,
) -> Thawed:
    asked = time.monotonic()
    prepared = asked

    def note_prepared() -> None:
        nonlocal prepared
        prepared = time.monotonic()

    try:
        async with node.thaws.turn(urgent=urgent):
            began = time.monotonic()
            filled = await thaw_it(note_prepared)
            thawed = time.monotonic()
        probe, pid = await together(
            _wait_ready(node, name, blueprint, filled.sandbox),
            _gather(node, name, blueprint, filled.sandbox),
        )
    except BaseException as error:
        restore_ended(node, checkpoint, name, restored_from, error)
        await discard(node, name)
        raise
    took = timedelta(seconds=time.monotonic() - asked)
    restore_ended(node, checkpoint, name, restored_from, took)
    return Thawed(
        restored_from=restored_from,
        sandbox=replace(filled.sandbox, pid=filled.sandbox.pid or pid),
        queue=timedelta(seconds=began - asked),
        prepare=timedelta(seconds=prepared - began),
        restore=timedelta(seconds=thawed - prepared),
        criu=filled.criu,
        probe=probe,
    )


async def _wait_ready(
    node: Node, name: ContainerName, blueprint: Blueprint, sandbox: Sandbox
) -> timedelta:
    if Sandbox.is_sealed(blueprint):
        # All of them are there now, and may speak to each other.
        await gate.close_gate(sandbox.pid, sealed=False)
    async with reached(node, blueprint, sandbox) as (session, target):
        timeout = blueprint.readiness.restore_timeout
        return await wait_ready(session, target, timeout, lambda: is_running(node, name))


async def _gather(node: Node, name: ContainerName, blueprint: Blueprint, sandbox: Sandbox) -> int:
    """Bring all processes of a thawed copy to where its limits and a pause reach them.

    Returns the process ID of the main container; 0 when it does not run any more.
    """
    called = list(sandbox.containers(name, blueprint).values())
    pids = await all_together(_gather_one(node, own) for own in called)
    return pids[called.index(str(name))]


async def _gather_one(node: Node, container: str) -> int:
    pid = 0
    try:
        state = await node.podman.inspect(container)
        if state is not None and state.running:
            pid = state.pid
            moved = await in_thread(gather, state.id, pid)
            logger.debug("%s: %d processes brought into its cgroup", container, moved)
    except (CgroupError, PodmanCallError) as error:
        logger.warning("%s: its limits and a pause may miss processes: %s", container, error)
    return pid
