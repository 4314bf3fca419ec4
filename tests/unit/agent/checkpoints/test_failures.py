"""Whose fault a failure is: a limit of the node is the node's, whatever it ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tryitnow.agent.checkpoints.failures import EXPECTED, Blame, BuildError, Job, failure_of
from tryitnow.agent.errors import (
    ArchiveMissingError,
    CgroupError,
    DigestMismatchError,
    FirewallError,
    HookError,
    NodeShortError,
    NotReadyError,
    SandboxLostError,
    SourceError,
    UnpackError,
    VolumeError,
)
from tryitnow.agent.revisions import RevisionError
from tryitnow.agent.transfer.client import FetchError
from tryitnow.api.limits import CAPACITY_FULL, NODE_LIMITS
from tryitnow.controller.retry import MAX_BUILDS, is_fault, is_final
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError
from tryitnow.podman.errors import (
    CRIUError,
    ImagePullError,
    NodeLimitError,
    NoSuchImageError,
    PodmanBusyError,
    PodmanError,
    PodmanUnreachableError,
)

NODE, APPLICATION, ARCHIVE, RESTORE = (
    Blame.NODE,
    Blame.APPLICATION,
    Blame.ARCHIVE,
    Blame.RESTORE,
)

OF_THE_NODE: list[tuple[Exception, str]] = [
    (NodeShortError(CAPACITY_FULL, "too many demos"), CAPACITY_FULL),
    (NodeLimitError("no locks", limit="LocksExhausted", remedy="more"), "LocksExhausted"),
    (PodmanUnreachableError("it is away"), "PodmanUnreachable"),
    (PodmanBusyError("it took too long"), "PodmanUnreachable"),
    (NotFoundError("no such revision"), "RevisionMissing"),
    (RevisionError("it was changed by hand"), "RevisionChanged"),
    (KubernetesError("503"), "APIServerUnreachable"),
    (SourceError("there is no Secret 'shop'"), "SourceMissing"),
    (FirewallError("nft: busy"), "FirewallFailed"),
    (SandboxLostError("crun: open /proc/7/ns/net: no such file"), "SandboxLost"),
    (ImagePullError("manifest unknown"), "ImagePullFailed"),
    (NoSuchImageError("image not known"), "ImageMissing"),
    (OSError(28, "No space left on device"), "DiskFull"),
    (OSError(5, "Input/output error"), "DiskFailing"),
    (OSError(24, "Too many open files"), "FilesExhausted"),
    (UnpackError("tar: a: Cannot write: No space left on device"), "DiskFull"),
    (VolumeError("the volume cannot be packed: No space left on device"), "DiskFull"),
]


@pytest.mark.parametrize("job", Job)
@pytest.mark.parametrize(("error", "reason"), OF_THE_NODE, ids=lambda case: str(case)[:30])
def test_what_the_node_lacks_is_the_nodes_in_every_job(
    tmp_path: Path, job: Job, error: Exception, reason: str
) -> None:
    failure = failure_of(job, error, tmp_path)
    assert (failure.blame, failure.reason) == (NODE, reason)


@pytest.mark.parametrize(("error", "reason"), OF_THE_NODE, ids=lambda case: str(case)[:30])
def test_a_build_that_the_node_could_not_do_is_tried_for_ever(
    tmp_path: Path, error: Exception, reason: str
) -> None:
    """Here or elsewhere: the controller knows all these reasons."""
    failed = failure_of(Job.BUILD, error, tmp_path)
    assert failed.reason == reason
    assert not is_final(reason, MAX_BUILDS + 1)


@pytest.mark.parametrize(
    ("job", "error", "blame", "reason"),
    [
        (Job.BUILD, BuildError("WarmUpFailed", "/shop answered 500"), APPLICATION, "WarmUpFailed"),
        (Job.BUILD, HookError("exit code 1"), APPLICATION, "HookFailed"),
        (Job.BUILD, NotReadyError("503"), APPLICATION, "ApplicationNotReady"),
        (Job.BUILD, CRIUError("CRIU failed", "a log"), APPLICATION, "CheckpointFailed"),
        (Job.BUILD, PodmanError("no such command"), APPLICATION, "StartFailed"),
        (Job.BUILD, VolumeError("make it smaller"), APPLICATION, "VolumeFailed"),
        (Job.VERIFY, NotReadyError("503"), RESTORE, "VerifyNotReady"),
        (Job.VERIFY, CRIUError("CRIU failed", "a log"), RESTORE, "RestoreFailed"),
        (Job.VERIFY, PodmanError("crun: exit 1"), RESTORE, "RestoreFailed"),
        (Job.VERIFY, VolumeError("it is gone"), NODE, "VolumeFailed"),
        (Job.PREPARE, UnpackError("no inventory.img"), RESTORE, "UnpackFailed"),
        (Job.PREPARE, DigestMismatchError("sha256"), ARCHIVE, "ArchiveDamaged"),
        (Job.SCRUB, ArchiveMissingError("it is missing"), ARCHIVE, "ArchiveDamaged"),
        (Job.FETCH, FetchError("node-b: 503"), NODE, "FetchFailed"),
        (Job.FETCH, PodmanError("500"), NODE, "PodmanFailed"),
        (Job.PREPARE, PodmanError("500"), NODE, "PodmanFailed"),
        (Job.SCRUB, PodmanError("500"), NODE, "PodmanFailed"),
        (Job.ADOPT, PodmanError("500"), NODE, "PodmanFailed"),
        (Job.REMOVE, PodmanError("500"), NODE, "PodmanFailed"),
        (Job.VERIFY, CgroupError("no such group"), NODE, "JobFailed"),
        (Job.BUILD, CgroupError("no such group"), NODE, "JobFailed"),
    ],
    ids=lambda case: case.value if isinstance(case, Job) else None,
)
def test_whose_fault_it_is(
    tmp_path: Path, job: Job, error: Exception, blame: Blame, reason: str
) -> None:
    failure = failure_of(job, error, tmp_path)
    assert (failure.blame, failure.reason) == (blame, reason)
    assert str(error).splitlines()[0] in failure.message
    assert isinstance(error, EXPECTED)
    if job is Job.BUILD:
        assert is_fault(reason) == (blame is APPLICATION), "the controller sees it the same way"


def test_what_only_another_machine_has_is_no_reason_to_wait(tmp_path: Path) -> None:
    error = NodeLimitError("wrong aio", limit="WrongMachine", remedy="another", permanent=True)
    failure = failure_of(Job.VERIFY, error, tmp_path)
    assert (failure.blame, failure.reason) == (RESTORE, "WrongMachine")
    assert failure.reason in NODE_LIMITS


def test_a_full_disk_says_where_and_how_much_is_free(tmp_path: Path) -> None:
    message = failure_of(Job.BUILD, OSError(28, "No space left on device"), tmp_path).message
    assert "No space left on device" in message
    assert str(tmp_path) in message
    assert "MiB are free" in message


def test_a_test_restore_that_is_slow_has_its_remedy(tmp_path: Path) -> None:
    message = failure_of(Job.VERIFY, NotReadyError("503"), tmp_path).message
    assert "spec.readiness.restoreTimeout" in message
