"""The life of a copy on this node: built or fetched, prepared, watched over, removed."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from tryitnow.agent.archive import ArchiveError
from tryitnow.agent.build import BuildError, build
from tryitnow.agent.copy_status import (
    report_failed,
    report_not_ready,
    report_prepared,
    report_progress,
)
from tryitnow.agent.fetch import FetchError, fetch
from tryitnow.agent.measure import (
    build_ended,
    copy_removed,
    copy_seen,
    fetch_ended,
)
from tryitnow.agent.names import Role, work_container
from tryitnow.agent.node import Node
from tryitnow.agent.prepare import unprepare
from tryitnow.agent.quarantine import RESTORE_FAILED, quarantine_damaged
from tryitnow.agent.restore import archive_name
from tryitnow.agent.sandboxes import discard
from tryitnow.agent.upkeep import check_archive, keep_prepared, preparing_id
from tryitnow.agent.verify import verify
from tryitnow.agent.warm import empty_pool
from tryitnow.api.meta import Key, find_condition
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.background import in_thread
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.podman.errors import ImagePullError, PodmanUnreachableError

logger = logging.getLogger(__name__)

Phase = NodeCheckpointPhase

MAX_UNREACHABLE = 4
"""Builds during which Podman went away, after which the node counts as having failed."""

PODMAN_UNREACHABLE = "PodmanUnreachable"

RETRY_QUARANTINED = timedelta(minutes=10)
"""After what time a copy that would not thaw is tried again by a test restore."""


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
            return await _in_turn(node, copy, _fetch)
        case Phase.QUARANTINED:
            # The controller names nodes that hold a good one, or has it built anew.
            return None
        case _:
            if wait := node.backoff.remaining(_build_id(copy)):
                return wait
            return await _in_turn(node, copy, _build)


async def _in_turn(
    node: Node,
    copy: NodeCheckpoint,
    work: Callable[[Node, NodeCheckpoint], Awaitable[timedelta | None]],
) -> timedelta | None:
    """Do what keeps the node busy when it is this copy's turn, if it is still wanted so."""
    async with node.builds:
        latest = node.copies.get(copy.key)
        if latest is None or latest.is_deleting or latest.spec != copy.spec:
            return timedelta()  # looked at anew: it waited for long, perhaps
        return await work(node, latest)


async def _build(node: Node, copy: NodeCheckpoint) -> timedelta | None:
    began = time.monotonic()
    latest = copy

    async def tell(progress: str, phase: Phase = Phase.BUILDING) -> None:
        nonlocal latest
        try:
            latest = await report_progress(node, latest, phase, progress)
        except KubernetesError as error:
            # What is said on the way is not worth the work that it is about.
            logger.warning("%s: cannot say %r: %s", copy.key, progress, error)

    if not node.health.criu_available:
        msg = f"CRIU is not available on {node.name}: {node.health.criu_message}"
        build_ended(node, copy, "CRIUNotAvailable", timedelta())
        await report_failed(node, latest, "CRIUNotAvailable", msg)
        return None
    try:
        archive = await build(node, copy, tell)
        await tell("test restore", Phase.VERIFYING)
        await verify(node, copy, archive)
        await tell("preparing quick restores", Phase.VERIFYING)
        await keep_prepared(node, copy, archive)
    except (BuildError, ArchiveError) as error:
        await in_thread(node.archives.remove, archive_name(copy))
        reason = error.reason if isinstance(error, BuildError) else "VerifyFailed"
        build_ended(node, copy, reason, timedelta(seconds=time.monotonic() - began))
        await report_failed(node, latest, reason, str(error))
        return None
    except PodmanUnreachableError as error:
        node.backoff.failed(_build_id(copy))
        node.broken_builds[copy.key] += 1
        if node.broken_builds[copy.key] < MAX_UNREACHABLE:
            raise
        # It may be this application that Podman breaks over, and another node's may not.
        build_ended(node, copy, PODMAN_UNREACHABLE, timedelta(seconds=time.monotonic() - began))
        await report_failed(node, latest, PODMAN_UNREACHABLE, str(error))
        return None
    node.backoff.forget(_build_id(copy))
    node.broken_builds.pop(copy.key, None)
    took = timedelta(seconds=time.monotonic() - began)
    build_ended(node, copy, "Verified", took)
    message = f"frozen and verified by a test restore in {took.total_seconds():.1f} s"
    await report_prepared(node, latest, archive, message, took)
    return node.settings.scrub_interval


async def _fetch(node: Node, copy: NodeCheckpoint) -> timedelta | None:
    order = copy.spec.fetch
    if order is None or not order.sources:
        return None
    if wait := node.backoff.remaining(_order_id(copy)):
        return wait
    began = time.monotonic()
    name = archive_name(copy)
    sources = ", ".join(source.node_name for source in order.sources)
    copy = await report_progress(node, copy, Phase.DOWNLOADING, f"copying from {sources}")
    try:
        await fetch(node, name, order, copy.spec.blueprint)
        for image in {order.archive.image, *order.archive.images.values()}:
            await node.podman.ensure_image(image)
        await keep_prepared(node, copy, order.archive)
    except (FetchError, ImagePullError, ArchiveError, OSError) as error:
        reason = "ImagePullFailed" if isinstance(error, ImagePullError) else "FetchFailed"
        node.backoff.failed(_order_id(copy))
        fetch_ended(node, copy, reason, timedelta(seconds=time.monotonic() - began))
        await report_not_ready(node, copy, reason, str(error))
        return node.backoff.remaining(_order_id(copy))
    node.backoff.forget(_order_id(copy))
    fetch_ended(node, copy, "Fetched", timedelta(seconds=time.monotonic() - began))
    await report_prepared(node, copy, order.archive, f"copied from {sources}", None)
    return node.settings.scrub_interval


async def _watch_over(node: Node, copy: NodeCheckpoint) -> timedelta | None:
    archive = copy.status.archive
    order = copy.spec.fetch
    if archive is None or (order is not None and order.archive.sha256 != archive.sha256):
        return await _in_turn(node, copy, _fetch)
    try:
        await check_archive(node, copy, archive)
        return await keep_prepared(node, copy, archive)
    except ArchiveError as error:
        await quarantine_damaged(node, copy, str(error))
        return None


async def _try_again(node: Node, copy: NodeCheckpoint) -> timedelta | None:
    condition = find_condition(copy.status.conditions, "Ready")
    archive = copy.status.archive
    if condition is None or archive is None:
        return None
    since = timedelta(seconds=time.time() - condition.last_transition_time.timestamp())
    if copy.key in node.retried:
        since = min(since, timedelta(seconds=time.monotonic() - node.retried[copy.key]))
    if since < RETRY_QUARANTINED:
        return RETRY_QUARANTINED - since
    node.retried[copy.key] = time.monotonic()
    try:
        await verify(node, copy, archive)
    except BuildError as error:
        logger.warning("%s stays in quarantine: %s", copy.key, error)
        try:
            await check_archive(node, copy, archive)
        except ArchiveError as damage:
            await quarantine_damaged(node, copy, str(damage))
        return RETRY_QUARANTINED
    await report_prepared(node, copy, archive, "a test restore worked again", None)
    return node.settings.scrub_interval


async def _remove(node: Node, copy: NodeCheckpoint) -> None:
    for role in (Role.BUILD, Role.VERIFY, Role.PREPARE):
        await discard(node, work_container(role, copy))
    await empty_pool(node, copy)
    await unprepare(node, copy, archive_name(copy))
    await in_thread(node.archives.remove, archive_name(copy))
    node.checked.pop(copy.key, None)
    node.retried.pop(copy.key, None)
    node.broken_builds.pop(copy.key, None)
    node.backoff.forget(_build_id(copy))
    node.backoff.forget(_order_id(copy))
    node.backoff.forget(preparing_id(copy))
    await node.kubernetes.remove_finalizer(copy)
    node.copies.forget(copy.key, copy.metadata.uid)
    copy_removed(node, copy)


def _build_id(copy: NodeCheckpoint) -> str:
    return f"{copy.metadata.uid}/build"


def _order_id(copy: NodeCheckpoint) -> str:
    # Another order, with other sources, need not wait for the pause of the last.
    return f"{copy.metadata.uid}/{copy.metadata.generation}"


def _reason(copy: NodeCheckpoint) -> str:
    condition = find_condition(copy.status.conditions, "Ready")
    return condition.reason if condition else ""
