"""After a failed build: whether to try again, and when."""

from __future__ import annotations

from datetime import timedelta

from tryitnow.api.limits import NODE_LIMITS
from tryitnow.backoff import Pauses

MAX_BUILDS = 3
"""Builds of one revision that may fail by its own fault, before a person has to act."""

PAUSES = Pauses(first=timedelta(seconds=5), last=timedelta(minutes=5))
"""The last is the kubelet's cap for its image pull back-off."""

TRANSIENT = frozenset(
    {
        "APIServerUnreachable",
        "CRIUNotAvailable",
        "EgressNotAllowed",
        "ArchiveLost",
        "FirewallFailed",
        "FetchFailed",
        "ImageMissing",
        "ImagePullFailed",
        "JobFailed",
        "NodeLost",
        "PodmanFailed",
        "PodmanUnreachable",
        "RegistryNotAllowed",
        "ReportRefused",
        "RevisionChanged",
        "RevisionUnconfirmed",
        "RevisionMissing",
        "SandboxLost",
        "SourceMissing",
        "UnexpectedError",
        *NODE_LIMITS,
    }
)
"""Reasons that may pass without any change to the Checkpoint: tried for ever."""


def is_fault(reason: str) -> bool:
    """Whether a failed build is the fault of its definition or application."""
    return reason not in TRANSIENT


def is_final(reason: str, faults: int) -> bool:
    """Whether another build would only fail the same way.

    Args:
        reason: Why the last build failed.
        faults: Failed builds that were the fault of the definition or the application.

    """
    return is_fault(reason) and faults >= MAX_BUILDS


def pause(attempts: int, failed_uid: str) -> timedelta:
    """Return how long to wait after so many failures, of which that NodeCheckpoint's is the last.

    The plan is made again and again from the same facts: the same failure has the same pause.
    """
    return PAUSES.after(attempts, seed=failed_uid)
