"""Keeping a copy good: its archive checked, and what is prepared from it whole."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

from tryitnow.agent.archive import ArchiveError
from tryitnow.agent.node import Checked, Node
from tryitnow.agent.prepare import prepare, unprepare
from tryitnow.agent.prepared import Prepared
from tryitnow.agent.restore import Unserved, archive_name
from tryitnow.agent.slot import drop_slots
from tryitnow.agent.unpack import UnpackError
from tryitnow.api.checkpoint import Archive
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.kubernetes.errors import KubernetesError
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError

logger = logging.getLogger(__name__)

FILES_EVERY_SECONDS = 3.0
"""Between two looks at whether an archive was touched: how late damage by hand is noticed."""


async def discard_prepared(node: Node, copy: NodeCheckpoint, unserved: Unserved) -> None:
    """Take away what was prepared and did not serve; it is prepared anew after a pause."""
    if node.prepared.get(copy.key) is not unserved.prepared:
        return  # found damaged and replaced meanwhile: what lies there now did not fail
    node.backoff.failed(preparing_id(copy))
    await unprepare(node, copy, archive_name(copy))
    note = (
        f"the prepared restore failed: {unserved.error}; "
        "demos are thawed from the archive until it works"
    )
    node.kubernetes.event(copy, "PreparedRestoreFailed", note, warning=True)


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
        return node.health.criu_available and node.backoff.remaining(preparing_id(copy)) is None
    return not prepared.is_intact()


async def check_archive(node: Node, copy: NodeCheckpoint, archive: Archive) -> None:
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
    await node.read_through(file, archive)
    if signature is not None:
        # Taken before the reading: what was changed meanwhile is looked at again.
        node.checked[copy.key] = Checked(signature, time.monotonic())


async def keep_prepared(node: Node, copy: NodeCheckpoint, archive: Archive) -> timedelta:
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
        await _report_size(node, copy, known)
        node.slots.changed(copy.key)
        return again
    node.prepared.pop(copy.key, None)
    await drop_slots(node, copy.key)
    if not node.health.criu_available:
        return again
    if wait := node.backoff.remaining(preparing_id(copy)):
        return min(wait, again)
    began = time.monotonic()
    try:
        async with node.unpacking:
            node.prepared[copy.key] = known = await prepare(node, copy, file, archive)
        await _report_size(node, copy, known)
        node.slots.changed(copy.key)
    except ArchiveError:
        node.checked.pop(copy.key, None)
        raise
    except PodmanUnreachableError:
        raise
    except (PodmanError, UnpackError, OSError) as error:
        node.backoff.failed(preparing_id(copy))
        wait = node.backoff.remaining(preparing_id(copy)) or again
        logger.warning("%s: cannot be prepared: %s", copy.key, error)
        note = f"{error}; demos are thawed from the archive, which is slower, until it works"
        node.kubernetes.event(copy, "NotPrepared", note, warning=True)
        return min(wait, again)
    # The pause is not forgotten: what can be prepared may still fail to be restored.
    logger.info("%s: unpacked for quick restores in %.1f s", copy.key, time.monotonic() - began)
    return again


async def _report_size(node: Node, copy: NodeCheckpoint, prepared: Prepared) -> None:
    """Say how much memory a copy fills, for whoever decides how many of them a node can hold."""
    size_bytes = await asyncio.to_thread(prepared.memory_bytes)
    seen = node.copies.get(copy.key) or copy
    if seen.status.memory_bytes != size_bytes:
        try:
            fields = {"memoryBytes": size_bytes}
            node.copies.update(await node.kubernetes.patch_status_fields(seen, fields))
        except KubernetesError as error:
            # The next look says it: what was built or fetched must not be lost for that.
            logger.warning("%s: cannot say how large it is: %s", copy.key, error)


def preparing_id(copy: NodeCheckpoint) -> str:
    """Return what the pauses of preparing a copy are remembered by."""
    return f"{copy.metadata.uid}/prepare"
