"""The audit log: one line of JSON for each archive that was asked for, given or refused."""

from __future__ import annotations

import json
import logging

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
