"""What an actor knows of its NodeCheckpoint: the one place where this is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from tryitnow.agent.checkpoints.failures import Blame, Failure, Job
from tryitnow.agent.checkpoints.plan import Desired, Observed
from tryitnow.agent.storage.archives import ArchiveName, Signature
from tryitnow.agent.storage.generations import Generation
from tryitnow.api.archive import Archive, Versions
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.backoff import Pauses

PAUSES = Pauses(timedelta(seconds=5), timedelta(minutes=5))
"""Between tries of a job that failed: the kubelet's for its image pulls."""

MAX_RESTORE_FAILURES = 2
"""Restores in a row that fail before the archive is quarantined: one can be a bad moment."""

MAX_AWAY = 4
"""Builds during which Podman went away, after which the node counts as having failed."""


@dataclass
class State:
    """All that is known of one revision on this node. Changed by its actor alone."""

    resource: NodeCheckpoint
    scrub_interval: timedelta
    clock: Callable[[], float] = time.monotonic
    revision: CheckpointRevision | None = None
    adopted: bool = False
    job: Job | None = None
    progress: str = ""
    archive: Archive | None = None
    images: dict[str, str] = field(default_factory=dict)
    build_duration: timedelta | None = None
    build_began: float | None = None
    """When the build began of which no test restore has answered yet."""

    generation: Generation | None = None
    verified_with: Versions | None = None
    was_ever_verified: bool = False
    """Whether a test restore of this archive answered here, however long ago."""

    restore_failures: int = 0
    damaged: Failure | None = None
    unrestorable: Failure | None = None
    unrestorable_since: float = 0.0
    build_failure: Failure | None = None
    failure: Failure | None = None
    """Why the last job failed, until one succeeds."""

    failed_job: Job | None = None
    failures: int = 0
    """How often that job failed since it last succeeded."""

    retry_at: float = 0.0
    checked: Signature | None = None
    """What the archive looked like when its digest was right."""

    checked_at: float = 0.0
    archive_changed: bool = False
    """Whether the archive or what is prepared was changed, or may have been."""

    @property
    def file(self) -> ArchiveName | None:
        """Name of the archive's file; None before the revision is known."""
        if self.revision is None:
            return None
        return ArchiveName(
            self.resource.checkpoint_key,
            self.resource.spec.revision,
            self.revision.definition.criu.compression,
        )

    def desired(self) -> Desired:
        """Return what the cluster wants."""
        spec = self.resource.spec
        return Desired(
            is_deleting=self.resource.is_deleting,
            fetch_sha256=spec.fetch.archive.sha256 if spec.fetch else None,
            has_sources=bool(spec.fetch and spec.fetch.sources),
            warm=spec.pool.warm,
        )

    def missing_features(self, versions: Versions) -> tuple[str, ...]:
        """Return the features of the processor that the archive, here or ordered, has in excess."""
        fetch = self.resource.spec.fetch
        archive = fetch.archive if fetch is not None else self.archive
        return versions.missing_for(archive.versions) if archive is not None else ()

    def observed(self, *, storage_ok: bool, criu_available: bool, versions: Versions) -> Observed:
        """Return what is there now."""
        now = self.clock()
        tested = self.verified_with is not None
        changed = self.verified_with is not None and self.verified_with.differs_from(versions)
        return Observed(
            now=now,
            storage_ok=storage_ok,
            criu_available=criu_available,
            adopted=self.adopted,
            job=self.job,
            archive_sha256=self.archive.sha256 if self.archive else None,
            prepared=self.generation is not None,
            verified=tested and not changed,
            was_verified=changed,
            damaged=self.damaged is not None,
            wrong_processor=bool(self.missing_features(versions)),
            unrestorable_since=self.unrestorable_since if self.unrestorable else None,
            build_failed=self.build_failure is not None,
            retry_at=self.retry_at,
            archive_changed=self.archive_changed,
            scrub_due=self.is_scrub_due,
        )

    @property
    def is_scrub_due(self) -> bool:
        """Whether the archive was not read through for long."""
        return self.clock() - self.checked_at >= self.scrub_interval.total_seconds()

    def seen(self, resource: NodeCheckpoint) -> None:
        """Take in the newest state of the object; other wishes end the pause before a retry."""
        before, self.resource = self.resource, resource
        if before.spec != resource.spec or before.is_deleting != resource.is_deleting:
            self.retry_at = 0.0

    def succeeded(self, job: Job) -> None:
        """Note that a job succeeded."""
        self.failure, self.retry_at = None, 0.0
        if job is self.failed_job:
            self.failed_job, self.failures = None, 0

    def failed(self, job: Job, failure: Failure) -> None:
        """Note that a job failed, and what follows from it."""
        self.failure = failure
        # What is done in between, such as fetching what cannot be unpacked, is no success.
        self.failures = self.failures + 1 if job is self.failed_job else 1
        self.failed_job = job
        self.retry_at = self.clock() + PAUSES.after(self.failures).total_seconds()
        built_here = self.resource.spec.fetch is None
        match failure.blame:
            case Blame.ARCHIVE:
                self.note_damaged(failure)
            case Blame.APPLICATION:
                self.build_failure = failure
            case Blame.RESTORE if built_here and not self.was_ever_verified:
                # An archive that was never restored serves nobody: it is built again.
                self.build_failure = failure
            case Blame.RESTORE:
                self._note_unrestorable(failure)
            case Blame.NODE if job is Job.BUILD and self._ends_build(failure):
                self.build_failure = failure

    def _ends_build(self, failure: Failure) -> bool:
        """Whether another node should try: this one had its chances."""
        return failure.reason != "PodmanUnreachable" or self.failures >= MAX_AWAY

    def note_damaged(self, failure: Failure) -> None:
        """Note that the archive cannot be used any more."""
        self.damaged = failure
        self.checked = None

    def restore_failed(self, generation: Generation, message: str) -> bool:
        """Count a demo's or a warm sandbox's restore that failed; return whether it was one too
        many."""
        if generation is not self.generation or self.unrestorable is not None:
            return False  # what lies here by now did not fail
        self.restore_failures += 1
        if self.restore_failures < MAX_RESTORE_FAILURES:
            return False
        self._note_unrestorable(Failure(Blame.RESTORE, "RestoreFailed", message))
        return True

    def restore_succeeded(self) -> None:
        """Forget failed restores: the archive works."""
        self.restore_failures = 0

    def _note_unrestorable(self, failure: Failure) -> None:
        self.unrestorable = failure
        self.unrestorable_since = self.clock()
        # A test restore decides, and not an older one.
        self.verified_with = None

    def verified(self, versions: Versions) -> None:
        """Note that a test restore answered."""
        self.verified_with = versions
        self.was_ever_verified = True
        self._forget_failed_restores()

    def lost_generation(self) -> None:
        """Note that what was prepared is not whole: restores that failed say nothing any more."""
        self.generation = None
        self._forget_failed_restores()

    def _forget_failed_restores(self) -> None:
        self.unrestorable = None
        self.restore_failures = 0

    def has_archive(self, archive: Archive, checked: Signature | None) -> None:
        """Note that a whole archive lies here."""
        if self.archive is None or self.archive.sha256 != archive.sha256:
            self.verified_with = None
            self.was_ever_verified = False
            self._forget_failed_restores()
        self.archive = archive
        self.damaged = self.build_failure = None
        self.checked, self.checked_at, self.archive_changed = checked, self.clock(), False
