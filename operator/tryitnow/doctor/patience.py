"""How long doctor waits for an answer: longer where the node is busy, and with each look that got
none."""

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
class Patience:
    """How long to wait for each kind of answer."""

    command: timedelta
    """For a command that prints its version."""

    podman: timedelta
    """For what Podman tells about itself: 0.1 s measured. It waits while a pull holds the lock of
    the storage."""

    criu_check: timedelta
    """``criu check`` tries the kernel's features one by one: 0.03 s measured, seconds under
    load."""


def load() -> float:
    """Return how many tasks want each processor of the node, of the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def patience(fixed: timedelta | None, unanswered: int, load: float = 0.0) -> Patience:
    """Return the limits of an examination.

    Args:
        fixed: The limit for a command, where the settings have one.
        unanswered: How many examinations in a row got no answer before this one.
        load: How many tasks want each processor: of eight, each has an eighth.

    """
    slower = min(max(load, 1.0), _MOST_LOAD) * 2 ** min(unanswered, 10)
    limit = fixed or min(_FIRST * slower, _LONGEST)
    return Patience(command=limit, podman=2 * limit, criu_check=4 * limit)
