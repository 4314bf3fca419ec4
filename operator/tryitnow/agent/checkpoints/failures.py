"""What a failed job means: whose fault it is, and what is tried next. Decided here alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tryitnow.agent.errors import (
    ArchiveError,
    CgroupError,
    FirewallError,
    HookError,
    NodeShortError,
    NotAllowedError,
    NotReadyError,
    SandboxError,
    SandboxLostError,
    SourceError,
    UnpackError,
)
from tryitnow.agent.revisions import RevisionError
from tryitnow.agent.storage.files import short_of_disk
from tryitnow.agent.transfer.client import FetchError
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError
from tryitnow.podman.errors import (
    CRIUError,
    ImagePullError,
    NodeLimitError,
    NoSuchImageError,
    PodmanError,
    PodmanUnreachableError,
)
from tryitnow.podman.limits import as_node_limit


class Job(Enum):
    """What an actor does with its archive, one at a time."""

    ADOPT = "adopt"
    BUILD = "build"
    FETCH = "fetch"
    PREPARE = "prepare"
    VERIFY = "verify"
    SCRUB = "scrub"
    REMOVE = "remove"


class Blame(Enum):
    """Whose fault a failure is."""

    NODE = "node"
    """A limit of the node, or Podman or the cluster being away: tried again here."""

    APPLICATION = "application"
    """The application or its definition."""

    ARCHIVE = "archive"
    """The archive is missing or damaged."""

    RESTORE = "restore"
    """The archive is whole and cannot be restored here."""


@dataclass(frozen=True)
class Failure:
    """A job that failed.

    Attributes:
        blame: Whose fault it is.
        reason: One word, as conditions have it.
        message: A sentence with the next step.

    """

    blame: Blame
    reason: str
    message: str


class BuildError(Exception):
    """The application cannot be built.

    Attributes:
        reason: One word for programs, such as WarmUpFailed.

    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


EXPECTED = (
    ArchiveError,
    BuildError,
    CgroupError,
    FetchError,
    HookError,
    KubernetesError,
    NodeShortError,
    NotReadyError,
    OSError,
    PodmanError,
    PodmanUnreachableError,
    RevisionError,
    SandboxError,
    UnpackError,
)
"""Errors that a job may end with. Any other is a bug of ours."""


def failure_of(job: Job, error: BaseException, directory: Path) -> Failure:
    """Return what an error of a job means.

    Args:
        job: The job.
        error: One of ``EXPECTED``.
        directory: Where archives lie, for the free space in messages.

    """
    return _of_node(job, error, directory) or _of_job(job, error)


def _of_node(job: Job, error: BaseException, directory: Path) -> Failure | None:
    """Errors that mean the same in every job: nothing is wrong with the archive."""
    match error:
        case NodeLimitError() if error.permanent:
            # Only another kind of machine has what this one lacks.
            return Failure(Blame.RESTORE, error.limit, str(error))
        case NodeShortError() | NodeLimitError():
            return Failure(Blame.NODE, error.limit, str(error))
        case PodmanUnreachableError():
            return Failure(Blame.NODE, "PodmanUnreachable", str(error))
        case NotFoundError():
            return Failure(Blame.NODE, "RevisionMissing", str(error))
        case RevisionError():
            return Failure(Blame.NODE, error.reason, str(error))
        case KubernetesError():
            return Failure(Blame.NODE, "APIServerUnreachable", str(error))
        case SourceError():
            return Failure(Blame.NODE, "SourceMissing", str(error))
        case FirewallError():
            return Failure(Blame.NODE, "FirewallFailed", str(error))
        case SandboxLostError():
            return Failure(Blame.NODE, "SandboxLost", str(error))
        case ImagePullError():
            return Failure(Blame.NODE, "ImagePullFailed", str(error))
        case FetchError():
            return Failure(Blame.NODE, "FetchFailed", str(error))
        case NoSuchImageError():
            return Failure(Blame.NODE, "ImageMissing", str(error))
        case OSError():
            short = short_of_disk(error, f"cannot {job.value}", directory)
            return Failure(Blame.NODE, short.limit, str(short))
        case SandboxError() | UnpackError() if (limit := as_node_limit(str(error))) is not None:
            # tar and cp say in words that the disk is full.
            return Failure(Blame.NODE, limit.limit, str(limit))
        case _:
            return None


def _of_job(job: Job, error: BaseException) -> Failure:
    text = str(error)
    match error:
        case ArchiveError():
            return Failure(Blame.ARCHIVE, "ArchiveDamaged", text)
        case UnpackError():
            return Failure(Blame.RESTORE, "UnpackFailed", text)
    if job is Job.BUILD:
        return _of_build(error, text)
    if job is Job.VERIFY:
        return _of_restore(error, text)
    # The application does not run in these: a Podman that refuses says nothing about it.
    reason = "PodmanFailed" if isinstance(error, PodmanError) else "JobFailed"
    return Failure(Blame.NODE, reason, f"cannot {job.value}: {text}")


def _of_build(error: BaseException, text: str) -> Failure:
    match error:
        case BuildError():
            return Failure(Blame.APPLICATION, error.reason, text)
        case HookError():
            return Failure(Blame.APPLICATION, "HookFailed", text)
        case NotReadyError():
            return Failure(Blame.APPLICATION, "ApplicationNotReady", f"spec.readiness: {text}")
        case CRIUError():
            return Failure(
                Blame.APPLICATION, "CheckpointFailed", f"CRIU cannot checkpoint it: {text}"
            )
        case PodmanError():
            return Failure(Blame.APPLICATION, "StartFailed", text)
        case NotAllowedError():
            return Failure(Blame.APPLICATION, "NotAllowed", text)
        case SandboxError():
            return Failure(Blame.APPLICATION, "VolumeFailed", text)
        case _:
            return Failure(Blame.NODE, "JobFailed", text)


def _of_restore(error: BaseException, text: str) -> Failure:
    match error:
        case NotReadyError():
            message = (
                f"the test restore did not answer: {text}; "
                "if it only needs longer, raise spec.readiness.restoreTimeout"
            )
            return Failure(Blame.RESTORE, "VerifyNotReady", message)
        case PodmanError():
            return Failure(Blame.RESTORE, "RestoreFailed", f"the test restore failed: {text}")
        case NotAllowedError():
            return Failure(Blame.NODE, "NotAllowed", text)
        case SandboxError():
            return Failure(Blame.NODE, "VolumeFailed", text)
        case _:
            return Failure(Blame.NODE, "JobFailed", text)
