"""What is known of a request for an archive, and its line of JSON in the audit log."""

from __future__ import annotations

import json
import logging

REVISION_HEADER = "Tryitnow-Revision"
"""Header of a request for an archive: the identity of the revision that it is to be restored as.
The memory of one application must not come up in the containers of another, whoever orders it."""

logger = logging.getLogger("tryitnow.audit")


def log_archive(outcome: str, **facts: str) -> None:
    """Log that an archive was given or refused.

    Args:
        outcome: ``given`` or ``refused``.
        facts: Who asked, for what, and why it was refused.

    """
    line = {"event": "archive", "outcome": outcome, **facts}
    level = logging.INFO if outcome == "given" else logging.WARNING
    logger.log(level, "%s", json.dumps(line))
