"""When a copy is taken out of service: its archive is damaged, or it cannot be thawed."""

from __future__ import annotations

from tryitnow.agent.archive import ArchiveError
from tryitnow.agent.copy_status import report_quarantined
from tryitnow.agent.node import Node
from tryitnow.agent.restore import archive_name
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import in_thread

MAX_RESTORE_FAILURES = 2
"""Failed thaws in a row that quarantine a copy: one can be the node's bad moment."""

DIGEST_MISMATCH = "DigestMismatch"
RESTORE_FAILED = "RestoreFailed"


async def note_restore_failure(node: Node, copy: NodeCheckpoint, message: str) -> None:
    """Count a failed thaw; the second in a row quarantines the copy on this node."""
    failures = copy.status.restore_failures + 1
    if failures >= MAX_RESTORE_FAILURES:
        status = copy.status.model_copy(update={"restore_failures": failures})
        await report_quarantined(node, copy, RESTORE_FAILED, message, status)
    else:
        await _count_failures(node, copy, failures)


async def note_restore_success(node: Node, copy: NodeCheckpoint) -> None:
    """Forget failed thaws: the copy works."""
    if copy.status.restore_failures:
        await _count_failures(node, copy, 0)


async def _count_failures(node: Node, copy: NodeCheckpoint, failures: int) -> None:
    fields = {"restoreFailures": failures}
    node.copies.update(await node.kubernetes.patch_status_fields(copy, fields))


async def quarantine_if_damaged(node: Node, copy: NodeCheckpoint, message: str) -> None:
    """Take an archive out of service that was found damaged a while ago, if it still is.

    It may have been replaced meanwhile.
    """
    if copy.status.archive is not None:
        try:
            await node.read_through(archive_name(copy), copy.status.archive)
        except ArchiveError:
            pass
        else:
            return
    await quarantine_damaged(node, copy, message)


async def quarantine_damaged(node: Node, copy: NodeCheckpoint, message: str) -> None:
    """Take a damaged archive out of service and off the disk."""
    node.checked.pop(copy.key, None)
    await in_thread(node.archives.remove, archive_name(copy))
    await report_quarantined(node, copy, DIGEST_MISMATCH, message, copy.status)
