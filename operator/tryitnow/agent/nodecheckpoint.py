"""The life of a copy on this node: built or fetched, prepared, watched over, removed."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

from tryitnow.agent.archive import ArchiveError
from tryitnow.agent.build import BuildError, build
from tryitnow.agent.fetch import FetchError, fetch
from tryitnow.agent.measure import (
    build_ended,
    copy_removed,
    copy_seen,
    count_copy,
    fetch_ended,
)
from tryitnow.agent.names import Role, work_container
from tryitnow.agent.node import Checked, Node
from tryitnow.agent.prepare import prepare, unprepare
from tryitnow.agent.restore import Unserved, archive_name
from tryitnow.agent.sandboxes import discard
from tryitnow.agent.slot import drop_slots
from tryitnow.agent.unpack import UnpackError
from tryitnow.agent.verify import verify
from tryitnow.api.checkpoint import Archive
from tryitnow.api.meta import ConditionStatus, Key, find_condition, set_condition
from tryitnow.api.nodecheckpoint import (
    Fetch,
    NodeCheckpoint,
    NodeCheckpointPhase,
    NodeCheckpointStatus,
)
from tryitnow.metrics.node import QUARANTINES
from tryitnow.podman.errors import ImagePullError, PodmanError, PodmanUnreachableError

logger = logging.getLogger(__name__)

Phase = NodeCheckpointPhase

MAX_RESTORE_FAILURES = 2
"""Failed thaws in a row that quarantine a copy: one can be the node's bad moment."""

RETRY_QUARANTINED = timedelta(minutes=10)
"""After what time a copy that would not thaw is tried again by a test restore."""

FILES_EVERY_SECONDS = 3.0
"""Between two looks at whether an archive was touched: how late damage by hand is noticed."""

DIGEST_MISMATCH = "DigestMismatch"
RESTORE_FAILED = "RestoreFailed"


async def reconcile_copy(node: Node, key: Key) -> timedelta | None:
    """Bring one copy to where its spec wants it; returns when to look again."""
    copy = node.copies.get(key)
    if copy is None:
        return None
    if copy.is_deleting:
        await _remove(node, copy)
        return None
    copy_seen(node, copy)
    match copy.status.phase:
        case Phase.FAILED:
            return None
        case Phase.PREPARED:
            return await _watch_over(node, copy)
        case Phase.QUARANTINED if _reason(copy) == RESTORE_FAILED:
            return await _try_again(node, copy)
        case _ if copy.spec.fetch is not None:
            return await _fetch(node, copy, copy.spec.fetch)
        case Phase.QUARANTINED:
            # The controller names nodes that hold a good one, or has it built anew.
            return None
        case _:
            return await _build(node, copy)


async def note_restore_failure(node: Node, copy: NodeCheckpoint, message: str) -> None:
    """Count a failed thaw; the second in a row quarantines the copy on this node."""
    failures = copy.status.restore_failures + 1
    if failures >= MAX_RESTORE_FAILURES:
        status = copy.status.model_copy(update={"restore_failures": failures})
        await _quarantine(node, copy, RESTORE_FAILED, message, status)
    else:
        await _count_failures(node, copy, failures)


async def note_restore_success(node: Node, copy: NodeCheckpoint) -> None:
    """Forget failed thaws: the copy works."""
    if copy.status.restore_failures:
        await _count_failures(node, copy, 0)


async def _count_failures(node: Node, copy: NodeCheckpoint, failures: int) -> None:
    fields = {"restoreFailures": failures}
    node.copies.take(await node.kubernetes.patch_status_fields(copy, fields))


async def quarantine_damaged(node: Node, copy: NodeCheckpoint, message: str) -> None:
    """Take a damaged archive out of service and off the disk."""
    node.checked.pop(copy.key, None)
    await asyncio.to_thread(node.archives.remove, archive_name(copy))
    await _quarantine(node, copy, DIGEST_MISMATCH, message, copy.status)


async def discard_prepared(node: Node, copy: NodeCheckpoint, unserved: Unserved) -> None:
    """Take away what was prepared and did not serve; it is prepared anew after a pause."""
    if node.prepared.get(copy.key) is not unserved.prepared:
        return  # found damaged and replaced meanwhile: what lies there now did not fail
    node.backoff.failed(_preparing_id(copy))
    await unprepare(node, copy, archive_name(copy))
    note = (
        f"the prepared restore failed: {unserved.error}; "
        "demos are thawed from the archive until it works"
    )
    node.kubernetes.event(copy, "PreparedRestoreFailed", note, warning=True)


async def _build(node: Node, copy: NodeCheckpoint) -> timedelta | None:
    began = time.monotonic()
    latest = copy

    async def tell(progress: str, phase: Phase = Phase.BUILDING) -> None:
        nonlocal latest
        latest = await _progress(node, latest, phase, progress)

    if not node.health.criu_available:
        msg = f"CRIU is not available on {node.name}: {node.health.criu_message}"
        build_ended(node, copy, "CRIUNotAvailable", timedelta())
        await _fail(node, latest, "CRIUNotAvailable", msg)
        return None
    try:
        archive = await build(node, copy, tell)
        await tell("test restore", Phase.VERIFYING)
        await verify(node, copy, archive)
        await tell("preparing quick restores", Phase.VERIFYING)
        await _prepare(node, copy, archive)
    except (BuildError, ArchiveError) as error:
        await asyncio.to_thread(node.archives.remove, archive_name(copy))
        reason = error.reason if isinstance(error, BuildError) else "VerifyFailed"
        build_ended(node, copy, reason, timedelta(seconds=time.monotonic() - began))
        await _fail(node, latest, reason, str(error))
        return None
    took = timedelta(seconds=time.monotonic() - began)
    build_ended(node, copy, "Verified", took)
    message = f"frozen and verified by a test restore in {took.total_seconds():.1f} s"
    await _prepared(node, latest, archive, message, took)
    return node.settings.scrub_interval


async def _fetch(node: Node, copy: NodeCheckpoint, order: Fetch) -> timedelta | None:
    if not order.sources:
        return None
    if wait := node.backoff.remaining(_order_id(copy)):
        return wait
    began = time.monotonic()
    name = archive_name(copy)
    sources = ", ".join(source.node_name for source in order.sources)
    copy = await _progress(node, copy, Phase.DOWNLOADING, f"copying from {sources}")
    try:
        await fetch(node, name, order, copy.spec.blueprint)
        for image in {order.archive.image, *order.archive.images.values()}:
            await node.podman.ensure_image(image)
        await _prepare(node, copy, order.archive)
    except (FetchError, ImagePullError, ArchiveError, OSError) as error:
        reason = "ImagePullFailed" if isinstance(error, ImagePullError) else "FetchFailed"
        node.backoff.failed(_order_id(copy))
        fetch_ended(node, copy, reason, timedelta(seconds=time.monotonic() - began))
        await _not_ready(node, copy, reason, str(error))
        return node.backoff.remaining(_order_id(copy))
    node.backoff.forget(_order_id(copy))
    fetch_ended(node, copy, "Fetched", timedelta(seconds=time.monotonic() - began))
    await _prepared(node, copy, order.archive, f"copied from {sources}", None)
    return node.settings.scrub_interval


async def _watch_over(node: Node, copy: NodeCheckpoint) -> timedelta | None:
    archive = copy.status.archive
    order = copy.spec.fetch
    if archive is None or (order is not None and order.archive.sha256 != archive.sha256):
        return await _fetch(node, copy, order) if order is not None else None
    try:
        await _check(node, copy, archive)
        return await _prepare(node, copy, archive)
    except ArchiveError as error:
        await quarantine_damaged(node, copy, str(error))
        return None


def touched(node: Node) -> list[Key]:
    """Return the copies that changed since the last look, or that could be prepared and are not.

    Blocking, and cheap: nothing is read.
    """
    return [copy.key for copy in node.copies if copy.is_prepared and _wants_a_look(node, copy)]


def _wants_a_look(node: Node, copy: NodeCheckpoint) -> bool:
    checked = node.checked.get(copy.key)
    if checked is None or checked.signature != node.archives.signature(archive_name(copy)):
        return True
    prepared = node.prepared.get(copy.key)
    if prepared is None:
        # It was taken away because it did not serve, or could not be made: once its pause is over.
        return node.health.criu_available and node.backoff.remaining(_preparing_id(copy)) is None
    return not prepared.is_intact()


async def _check(node: Node, copy: NodeCheckpoint, archive: Archive) -> None:
    """Read the archive through, if it was touched or if that was not done for long.

    Raises:
        ArchiveError: it is missing or damaged.

    """
    file = archive_name(copy)
    signature = node.archives.signature(file)
    known = node.checked.get(copy.key)
    if known is not None and known.signature == signature:
        since = time.monotonic() - known.at
        if since < node.settings.scrub_interval.total_seconds():
            return
    node.checked.pop(copy.key, None)
    await asyncio.to_thread(node.archives.check, file, archive)
    if signature is not None:
        # Taken before the reading: what was changed meanwhile is looked at again.
        node.checked[copy.key] = Checked(signature, time.monotonic())


async def _prepare(node: Node, copy: NodeCheckpoint, archive: Archive) -> timedelta:
    """See to it that restores of this copy are quick; where that fails they are only slower."""
    again = node.settings.scrub_interval
    file = archive_name(copy)
    known = node.prepared.get(copy.key)
    if known is None:
        known = await asyncio.to_thread(node.data.find, file.stem, archive.sha256)
    intact = (
        known is not None
        and known.archive_sha256 == archive.sha256
        and await asyncio.to_thread(known.is_intact)
        and all([await node.podman.has_image(image) for image in known.images.values()])
    )
    if known is not None and intact:
        node.prepared[copy.key] = known
        node.slots.changed(copy.key)
        return again
    node.prepared.pop(copy.key, None)
    await drop_slots(node, copy.key)
    if not node.health.criu_available:
        return again
    if wait := node.backoff.remaining(_preparing_id(copy)):
        return min(wait, again)
    began = time.monotonic()
    try:
        node.prepared[copy.key] = await prepare(node, copy, file, archive)
        node.slots.changed(copy.key)
    except ArchiveError:
        node.checked.pop(copy.key, None)
        raise
    except PodmanUnreachableError:
        raise
    except (PodmanError, UnpackError, OSError) as error:
        node.backoff.failed(_preparing_id(copy))
        wait = node.backoff.remaining(_preparing_id(copy)) or again
        logger.warning("%s: cannot be prepared: %s", copy.key, error)
        note = f"{error}; demos are thawed from the archive, which is slower, until it works"
        node.kubernetes.event(copy, "NotPrepared", note, warning=True)
        return min(wait, again)
    # The pause is not forgotten: what can be prepared may still fail to be restored.
    logger.info("%s: unpacked for quick restores in %.1f s", copy.key, time.monotonic() - began)
    return again


async def _try_again(node: Node, copy: NodeCheckpoint) -> timedelta | None:
    condition = find_condition(copy.status.conditions, "Ready")
    archive = copy.status.archive
    if condition is None or archive is None:
        return None
    since = time.time() - condition.last_transition_time.timestamp()
    if since < RETRY_QUARANTINED.total_seconds():
        return RETRY_QUARANTINED - timedelta(seconds=since)
    try:
        await verify(node, copy, archive)
    except BuildError as error:
        logger.warning("%s stays in quarantine: %s", copy.key, error)
        return RETRY_QUARANTINED
    await _prepared(node, copy, archive, "a test restore worked again", None)
    return node.settings.scrub_interval


async def _remove(node: Node, copy: NodeCheckpoint) -> None:
    for role in (Role.BUILD, Role.VERIFY, Role.PREPARE):
        await discard(node, work_container(role, copy))
    await unprepare(node, copy, archive_name(copy))
    await asyncio.to_thread(node.archives.remove, archive_name(copy))
    node.checked.pop(copy.key, None)
    node.backoff.forget(_order_id(copy))
    node.backoff.forget(_preparing_id(copy))
    await node.kubernetes.remove_finalizer(copy)
    node.copies.forget(copy.key, copy.metadata.uid)
    copy_removed(node, copy)


def _order_id(copy: NodeCheckpoint) -> str:
    # Another order, with other sources, need not wait for the pause of the last.
    return f"{copy.metadata.uid}/{copy.metadata.generation}"


def _preparing_id(copy: NodeCheckpoint) -> str:
    return f"{copy.metadata.uid}/prepare"


def _reason(copy: NodeCheckpoint) -> str:
    condition = find_condition(copy.status.conditions, "Ready")
    return condition.reason if condition else ""


async def _write(node: Node, copy: NodeCheckpoint, status: NodeCheckpointStatus) -> NodeCheckpoint:
    status = status.model_copy(update={"observed_generation": copy.metadata.generation})
    return node.copies.take(await node.kubernetes.patch_status(copy, status.to_api()))


def _with_ready(
    copy: NodeCheckpoint, ready: ConditionStatus, reason: str, message: str
) -> NodeCheckpointStatus:
    conditions = set_condition(
        copy.status.conditions, "Ready", ready, reason, message, generation=copy.metadata.generation
    )
    return copy.status.model_copy(update={"conditions": tuple(conditions)})


async def _progress(
    node: Node, copy: NodeCheckpoint, phase: Phase, progress: str
) -> NodeCheckpoint:
    logger.info("%s: %s", copy.key, progress)
    status = _with_ready(copy, ConditionStatus.FALSE, str(phase), progress)
    return await _write(
        node, copy, status.model_copy(update={"phase": phase, "progress": progress})
    )


async def _prepared(
    node: Node, copy: NodeCheckpoint, archive: Archive, message: str, took: timedelta | None
) -> None:
    logger.info("%s: %s", copy.key, message)
    status = _with_ready(copy, ConditionStatus.TRUE, "Prepared", message)
    update = {
        "phase": Phase.PREPARED,
        "progress": "",
        "archive": archive,
        "verified": True,
        "restore_failures": 0,
        "build_duration": took or copy.status.build_duration,
    }
    await _write(node, copy, status.model_copy(update=update))
    node.kubernetes.event(copy, "Prepared", message)


async def _not_ready(node: Node, copy: NodeCheckpoint, reason: str, message: str) -> None:
    logger.warning("%s: %s: %s", copy.key, reason, message)
    await _write(node, copy, _with_ready(copy, ConditionStatus.FALSE, reason, message))
    node.kubernetes.event(copy, reason, message, warning=True)


async def _fail(node: Node, copy: NodeCheckpoint, reason: str, message: str) -> None:
    logger.error("%s: %s: %s", copy.key, reason, message)
    status = _with_ready(copy, ConditionStatus.FALSE, reason, message)
    await _write(node, copy, status.model_copy(update={"phase": Phase.FAILED, "progress": ""}))
    node.kubernetes.event(copy, reason, message, warning=True)


async def _quarantine(
    node: Node, copy: NodeCheckpoint, reason: str, message: str, status: NodeCheckpointStatus
) -> None:
    logger.error("%s: quarantined: %s: %s", copy.key, reason, message)
    count_copy(node, QUARANTINES, copy, reason)
    marked = _with_ready(
        copy.model_copy(update={"status": status}), ConditionStatus.FALSE, reason, message
    )
    await _write(node, copy, marked.model_copy(update={"phase": Phase.QUARANTINED, "progress": ""}))
    node.kubernetes.event(copy, f"Quarantined{reason}", message, warning=True)
