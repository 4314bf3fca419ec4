"""After a failed build: whether to try again, and when."""

from __future__ import annotations

from datetime import timedelta

MAX_BUILDS = 3
"""Builds of one revision that may fail for a reason of its own, before somebody has to act."""

FIRST_PAUSE = timedelta(seconds=5)
LAST_PAUSE = timedelta(minutes=5)
"""The kubelet's cap for its image pull back-off."""

TRANSIENT = frozenset(
    {
        "CRIUNotAvailable",
        "CopiesLost",
        "GateFailed",
        "ImagePullFailed",
        "NoPort",
        "NodeLost",
        "PodmanUnreachable",
        "SourceMissing",
        "WriteFailed",
    }
)
"""Reasons that the world may mend without any change to the Checkpoint: tried for ever."""


def is_final(reason: str, attempts: int) -> bool:
    """Whether another build would only fail the same way."""
    return reason not in TRANSIENT and attempts >= MAX_BUILDS


def pause(attempts: int) -> timedelta:
    """Return how long to wait after so many failures."""
    doubled: timedelta = FIRST_PAUSE * (1 << min(max(attempts - 1, 0), 10))
    return min(doubled, LAST_PAUSE)
