"""The time limits of doctor's checks: longer on a busy node, and after checks without an answer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

_FIRST = timedelta(seconds=5)
"""For a command that only prints its version; milliseconds, unless disk or processor is busy."""

_LONGEST = timedelta(seconds=30)

_MOST_LOAD = 4.0
"""Times the processors: a node that hangs on its disk may have a load of hundreds."""


@dataclass(frozen=True)
class Timeouts:
    """The time limit for each kind of answer."""

    command: timedelta
    """For a command that prints its version."""

    podman: timedelta
    """For Podman's facts about itself: 0.1 s measured. Podman waits while a pull holds the lock of
    its storage."""

    criu_check: timedelta
    """``criu check`` tries the kernel's features one by one: 0.03 s measured, seconds under
    load."""


def load() -> float:
    """Return the node's load of the last minute per processor."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def timeouts_for(fixed: timedelta | None, unanswered: int, load: float = 0.0) -> Timeouts:
    """Return the limits of an examination.

    Args:
        fixed: The limit for a command, where the settings have one.
        unanswered: How many examinations in a row got no answer before this one.
        load: The node's load per processor: at a load of 8, a task gets an eighth of one.

    """
    slower = min(max(load, 1.0), _MOST_LOAD) * 2 ** min(unanswered, 10)
    limit = fixed or min(_FIRST * slower, _LONGEST)
    return Timeouts(command=limit, podman=2 * limit, criu_check=4 * limit)
