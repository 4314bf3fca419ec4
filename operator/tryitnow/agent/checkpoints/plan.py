"""What an actor does next: a pure function from what is wanted and what is there.

The sister of the controller's plan. It knows no Podman, no disk, and no clock but the ``now`` that
it is given, so that every decision can be tested by a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from tryitnow.agent.checkpoints.failures import Job

PRECREATED = 4
"""Pre-created sandboxes of a revision that wait: more demos than that at once keep the cores busy
for longer than it takes to make their sandboxes."""

RETEST_AFTER = timedelta(minutes=10)
"""After that long, an archive that could not be restored is tested again."""


@dataclass(frozen=True)
class Desired:
    """What the cluster wants of this node for one revision."""

    is_deleting: bool = False
    fetch_sha256: str | None = None
    """Digest of the archive to fetch; None where this node builds."""

    has_sources: bool = False
    """Whether somebody is named to fetch from."""

    warm: int = 0
    """Warm sandboxes that are to wait."""


@dataclass(frozen=True)
class Observed:
    """What is there, and what the node is like, at one moment."""

    now: float
    """Monotonic seconds."""

    storage_ok: bool = True
    """Whether the node's storage is what it was: otherwise nothing is begun."""

    criu_available: bool = True
    adopted: bool = True
    """Whether this agent has looked at what an agent before it left."""

    job: Job | None = None
    archive_sha256: str | None = None
    """Digest of the archive that lies here, and was right when it was last read."""

    prepared: bool = False
    verified: bool = False
    """Whether a test restore answered here, with the software that the node has now."""

    was_verified: bool = False
    """Whether a test restore answered here, with other software."""

    damaged: bool = False
    """Whether the archive was found damaged, and is gone."""

    wrong_processor: bool = False
    """Whether the processor lacks features that the archive, here or to be fetched, may use."""

    unrestorable_since: float | None = None
    """When restores were found to fail here."""

    build_failed: bool = False
    """Whether the build failed: the controller decides what is next."""

    retry_at: float = 0.0
    """When a job that failed may begin again."""

    archive_changed: bool = False
    """Whether the archive or what is prepared from it was changed, or may have been."""

    scrub_due: bool = False
    """Whether the archive was not read through for long."""


@dataclass(frozen=True)
class Next:
    """What to do."""

    start: Job | None = None
    cancel: bool = False
    """Whether the present job has no point any more."""

    warm: int | None = 0
    """Warm sandboxes that are to wait; None leaves them as they are."""

    precreated: int | None = 0
    wake_at: float | None = None
    """When to decide again, if nothing happens before."""


def plan(desired: Desired, observed: Observed) -> Next:
    """Decide what an actor does next."""
    if desired.is_deleting:
        if observed.job is None:
            return _due(observed, Job.REMOVE, Next())
        return Next(cancel=observed.job is not Job.REMOVE)
    if not observed.storage_ok:
        return Next(warm=None, precreated=None)
    stock = _stock(desired, observed)
    if observed.job is not None:
        return Next(stock.start, _is_pointless(desired, observed), stock.warm, stock.precreated)
    if not observed.adopted:
        return _due(observed, Job.ADOPT, Next(warm=None, precreated=None))
    wanted = _content(desired, observed)
    return stock if wanted is None else _due(observed, wanted, stock)


def is_ready(desired: Desired, observed: Observed) -> bool:
    """Whether demos can be restored from what is here."""
    return (
        not desired.is_deleting
        and observed.archive_sha256 is not None
        and observed.prepared
        and (observed.verified or observed.was_verified)
        and not observed.damaged
        and not observed.wrong_processor
        and observed.unrestorable_since is None
    )


def awaits_retest(desired: Desired, observed: Observed) -> bool:
    """Whether a test restore is about to tell if the node's new software can restore it.

    The node goes on holding it: what was Ready is not thrown away. Nothing is restored before.
    """
    return is_ready(desired, observed) and observed.was_verified and observed.criu_available


def _stock(desired: Desired, observed: Observed) -> Next:
    if not observed.adopted:
        return Next(warm=None, precreated=None)
    if not is_ready(desired, observed):
        return Next()
    if not (observed.verified and observed.criu_available):
        # The test restore after a change decides; what waits runs already, and answers.
        return Next(warm=None, precreated=None)
    return Next(warm=desired.warm, precreated=PRECREATED)


def _content(desired: Desired, observed: Observed) -> Job | None:
    if observed.build_failed and desired.fetch_sha256 is None:
        return None
    replaced = desired.fetch_sha256 not in {None, observed.archive_sha256}
    if observed.archive_sha256 is None or observed.damaged or replaced:
        if desired.fetch_sha256 is not None:
            # Without sources there is nobody to ask; the order changes when there is.
            is_of_use = desired.has_sources and not observed.wrong_processor
            return Job.FETCH if is_of_use else None
        # A build whose archive was lost is the controller's to order again, maybe elsewhere.
        return None if observed.damaged else Job.BUILD
    if observed.wrong_processor:
        return None  # only another processor helps
    if observed.archive_changed:
        return Job.SCRUB  # what it finds decides what is next
    if observed.unrestorable_since is not None:
        retest_at = observed.unrestorable_since + RETEST_AFTER.total_seconds()
        if observed.now < retest_at:
            return None
    if not observed.criu_available:
        return None
    if not observed.prepared:
        return Job.PREPARE
    if not observed.verified or observed.unrestorable_since is not None:
        return Job.VERIFY
    return Job.SCRUB if observed.scrub_due else None


def _is_pointless(desired: Desired, observed: Observed) -> bool:
    if observed.job is Job.BUILD:
        return desired.fetch_sha256 is not None
    return False


def _due(observed: Observed, job: Job, stock: Next) -> Next:
    if observed.retry_at > observed.now:
        return Next(None, stock.cancel, stock.warm, stock.precreated, wake_at=observed.retry_at)
    return Next(job, stock.cancel, stock.warm, stock.precreated)
