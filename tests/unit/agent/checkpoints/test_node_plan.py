"""What an actor does next: a table of the cases that matter, and what holds in all of them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tryitnow.agent.checkpoints.failures import Job
from tryitnow.agent.checkpoints.plan import (
    PRECREATED,
    RETEST_AFTER,
    Desired,
    Next,
    Observed,
    awaits_retest,
    is_ready,
    plan,
)

OLD, NEW = "0" * 64, "1" * 64
NOW = 1000.0

BUILDER = Desired(warm=2)
FETCHER = Desired(fetch_sha256=NEW, has_sources=True, warm=2)
LONELY = replace(FETCHER, has_sources=False)
DELETED = replace(BUILDER, is_deleting=True)

EMPTY = Observed(NOW)
HERE = replace(EMPTY, archive_sha256=NEW)
PREPARED = replace(HERE, prepared=True)
READY = replace(PREPARED, verified=True)
CHANGED_NODE = replace(PREPARED, was_verified=True)
UNRESTORABLE = replace(PREPARED, unrestorable_since=NOW - 1)
RETEST = replace(PREPARED, unrestorable_since=NOW - RETEST_AFTER.total_seconds())

NOTHING = Next()


def left(start: Job | None = None) -> Next:
    """Leave what waits as it is."""
    return Next(start, warm=None, precreated=None)


def stocked(start: Job | None = None) -> Next:
    """Keep as much in stock as is wanted."""
    return Next(start, warm=2, precreated=PRECREATED)


@pytest.mark.parametrize(
    ("desired", "observed", "expected"),
    [
        # The way to Ready, step by step.
        (BUILDER, replace(EMPTY, adopted=False), left(Job.ADOPT)),
        (BUILDER, EMPTY, Next(Job.BUILD)),
        (FETCHER, EMPTY, Next(Job.FETCH)),
        (BUILDER, HERE, Next(Job.PREPARE)),
        (FETCHER, HERE, Next(Job.PREPARE)),
        (BUILDER, PREPARED, Next(Job.VERIFY)),
        (FETCHER, PREPARED, Next(Job.VERIFY)),
        (BUILDER, READY, stocked()),
        (replace(BUILDER, warm=0), READY, Next(warm=0, precreated=PRECREATED)),
        # Without anybody to fetch from there is nothing to do but to wait for another order.
        (LONELY, EMPTY, NOTHING),
        (LONELY, READY, stocked()),
        # Another archive is wanted than lies here.
        (FETCHER, replace(READY, archive_sha256=OLD), stocked(Job.FETCH)),
        # Other software: what is here serves until the test restore has decided.
        (BUILDER, CHANGED_NODE, left(Job.VERIFY)),
        # Another processor is the only thing that helps: nothing is fetched, unpacked or tested.
        (FETCHER, replace(EMPTY, wrong_processor=True), NOTHING),
        (FETCHER, replace(HERE, wrong_processor=True), NOTHING),
        (BUILDER, replace(PREPARED, wrong_processor=True), NOTHING),
        (BUILDER, replace(READY, wrong_processor=True, scrub_due=True), NOTHING),
        (BUILDER, replace(CHANGED_NODE, wrong_processor=True), NOTHING),
        (DELETED, replace(READY, wrong_processor=True), Next(Job.REMOVE)),
        # The archive is read now and then, and when something was changed.
        (BUILDER, replace(READY, scrub_due=True), stocked(Job.SCRUB)),
        (BUILDER, replace(READY, archive_changed=True), stocked(Job.SCRUB)),
        (BUILDER, replace(PREPARED, scrub_due=True), Next(Job.VERIFY)),
        (BUILDER, replace(UNRESTORABLE, archive_changed=True), Next(Job.SCRUB)),
        # A damaged archive is fetched again; one that was built here is the controller's to order.
        (FETCHER, replace(READY, damaged=True), Next(Job.FETCH)),
        (BUILDER, replace(READY, damaged=True), NOTHING),
        # One that cannot be restored is tested again after a while.
        (BUILDER, UNRESTORABLE, NOTHING),
        (FETCHER, UNRESTORABLE, NOTHING),
        (BUILDER, RETEST, Next(Job.VERIFY)),
        (BUILDER, replace(RETEST, prepared=False), Next(Job.PREPARE)),
        (BUILDER, replace(RETEST, verified=True), Next(Job.VERIFY)),
        # A build that failed waits for the controller; an order to fetch is its answer.
        (BUILDER, replace(EMPTY, build_failed=True), NOTHING),
        (FETCHER, replace(EMPTY, build_failed=True), Next(Job.FETCH)),
        # Without CRIU nothing can be restored; what waits runs already.
        (BUILDER, replace(HERE, criu_available=False), NOTHING),
        (BUILDER, replace(READY, criu_available=False), left()),
        (BUILDER, replace(RETEST, criu_available=False), NOTHING),
        (FETCHER, replace(EMPTY, criu_available=False), Next(Job.FETCH)),
        # A job that failed begins again when its pause is over.
        (BUILDER, replace(EMPTY, retry_at=NOW + 5), Next(wake_at=NOW + 5)),
        (BUILDER, replace(EMPTY, retry_at=NOW), Next(Job.BUILD)),
        (DELETED, replace(READY, retry_at=NOW + 5), Next(wake_at=NOW + 5)),
        # One job at a time.
        (BUILDER, replace(HERE, job=Job.PREPARE), NOTHING),
        (BUILDER, replace(READY, job=Job.SCRUB), stocked()),
        (FETCHER, replace(EMPTY, job=Job.BUILD), Next(cancel=True)),
        (FETCHER, replace(EMPTY, job=Job.FETCH), NOTHING),
        # Deleting goes before all.
        (DELETED, READY, Next(Job.REMOVE)),
        (DELETED, replace(EMPTY, adopted=False), Next(Job.REMOVE)),
        (DELETED, replace(EMPTY, job=Job.BUILD), Next(cancel=True)),
        (DELETED, replace(READY, job=Job.REMOVE), NOTHING),
        # Storage that is not what it was: nothing is begun, and nothing thrown away.
        (BUILDER, replace(READY, storage_ok=False), left()),
        (BUILDER, replace(EMPTY, storage_ok=False), left()),
        (DELETED, replace(READY, storage_ok=False), Next(Job.REMOVE)),
    ],
)
def test_what_is_next(desired: Desired, observed: Observed, expected: Next) -> None:
    assert plan(desired, observed) == expected


def test_a_retest_is_awaited_only_where_one_can_come() -> None:
    assert awaits_retest(BUILDER, CHANGED_NODE)
    assert awaits_retest(BUILDER, replace(CHANGED_NODE, job=Job.VERIFY))
    assert not awaits_retest(BUILDER, READY)
    assert not awaits_retest(BUILDER, replace(CHANGED_NODE, criu_available=False))
    assert not awaits_retest(BUILDER, replace(CHANGED_NODE, wrong_processor=True))
    assert not awaits_retest(BUILDER, replace(CHANGED_NODE, unrestorable_since=NOW))


DESIRES = [BUILDER, FETCHER, LONELY, replace(FETCHER, fetch_sha256=OLD), DELETED]


@functools.cache
def every_observation() -> tuple[Observed, ...]:
    return tuple(_combinations())


def _combinations() -> Iterator[Observed]:
    """All combinations: most never happen, and none may end in something wrong."""
    facts = itertools.product(
        (None, Job.BUILD, Job.VERIFY, Job.REMOVE),
        (None, NEW),
        (None, NOW - 1, NOW - RETEST_AFTER.total_seconds()),
        (0.0, NOW + 5),
    )
    for (job, archive, since, retry_at), flags in itertools.product(
        facts, itertools.product((False, True), repeat=10)
    ):
        (
            storage_ok,
            criu,
            adopted,
            prepared,
            verified,
            was,
            damaged,
            failed,
            archive_changed,
            due,
        ) = flags
        if (verified and was) or (archive_changed and due):
            continue  # it answers to one question; the one includes the other
        yield Observed(
            now=NOW,
            storage_ok=storage_ok,
            criu_available=criu,
            adopted=adopted,
            job=job,
            archive_sha256=archive,
            prepared=prepared,
            verified=verified,
            was_verified=was,
            damaged=damaged,
            unrestorable_since=since,
            build_failed=failed,
            retry_at=retry_at,
            archive_changed=archive_changed,
            scrub_due=due,
        )


@pytest.mark.parametrize(
    "desired", DESIRES, ids=["builds", "fetches", "lonely", "replaced", "deleted"]
)
def test_what_holds_always(desired: Desired) -> None:
    for observed in every_observation():
        following = plan(desired, observed)
        problem = _wrong(desired, observed, following)
        assert problem is None, f"{problem}: {observed} → {following}"


def _wrong(desired: Desired, observed: Observed, following: Next) -> str | None:
    """Return the rule that a decision breaks."""
    start = following.start
    pausing = observed.retry_at > observed.now
    rules = {
        "never two jobs": start is None or observed.job is None,
        "only what goes on can be cancelled": observed.job is not None or not following.cancel,
        "a removal is never cancelled": observed.job is not Job.REMOVE or not following.cancel,
        "a deletion reaches REMOVE": not desired.is_deleting
        or start is Job.REMOVE
        or observed.job is Job.REMOVE
        or following.cancel
        or (pausing and following.wake_at == observed.retry_at),
        "only what is deleted is removed": desired.is_deleting or start is not Job.REMOVE,
        "nothing else is begun while the storage is not what it was": observed.storage_ok
        or desired.is_deleting
        or (start is None and following.warm is None and following.precreated is None),
        "a pause is a pause": start is None or not pausing,
        "a pause ends": not pausing or following.wake_at in {None, observed.retry_at},
        "nothing before what lies here is known": observed.adopted
        or start in {None, Job.ADOPT, Job.REMOVE},
        "nothing is made before it is known": observed.adopted or not following.warm,
        "nobody unpacks or tests what is not here": start
        not in {Job.PREPARE, Job.VERIFY, Job.SCRUB}
        or (observed.archive_sha256 is not None and not observed.damaged),
        "only what is prepared is tested": start is not Job.VERIFY or observed.prepared,
        "only what was tested is kept in stock": not following.warm or observed.verified,
        "nothing is restored without CRIU": observed.criu_available
        or (start is not Job.VERIFY and not following.warm and not following.precreated),
        "who is told to fetch does not build": desired.fetch_sha256 is None
        or start is not Job.BUILD,
        "who builds does not fetch": desired.fetch_sha256 is not None or start is not Job.FETCH,
        "nobody is asked who is not named": desired.has_sources or start is not Job.FETCH,
        "a failed build is not begun again": not observed.build_failed or start is not Job.BUILD,
        "Ready means prepared and tested": not is_ready(desired, observed)
        or (
            observed.prepared
            and (observed.verified or observed.was_verified)
            and not observed.damaged
            and observed.unrestorable_since is None
            and not desired.is_deleting
        ),
    }
    return next((rule for rule, holds in rules.items() if not holds), None)


@pytest.mark.parametrize("desired", [BUILDER, FETCHER], ids=["builds", "fetches"])
@pytest.mark.parametrize("kernel_changes", [False, True])
def test_every_start_leads_to_ready(desired: Desired, *, kernel_changes: bool) -> None:
    """Each job does what it is for; after a handful of them demos can be restored."""
    for prepared, archive_changed, due, archive in itertools.product(
        (False, True), (False, True), (False, True), (None, OLD, NEW)
    ):
        observed = Observed(
            NOW,
            adopted=False,
            prepared=prepared and archive is not None,
            archive_changed=archive_changed,
            scrub_due=due,
            archive_sha256=archive,
            was_verified=kernel_changes and archive is not None,
        )
        for _ in range(6):
            observed = _done(plan(desired, observed).start, observed)
        assert is_ready(desired, observed)
        assert plan(desired, observed) == stocked()


def _done(job: Job | None, observed: Observed) -> Observed:
    match job:
        case Job.ADOPT:
            return replace(observed, adopted=True)
        case Job.BUILD | Job.FETCH:
            return replace(
                observed, archive_sha256=NEW, prepared=False, was_verified=False,
                verified=False, archive_changed=False, scrub_due=False,
            )  # fmt: skip
        case Job.PREPARE:
            return replace(observed, prepared=True)
        case Job.VERIFY:
            return replace(observed, verified=True, was_verified=False)
        case Job.SCRUB:
            return replace(observed, archive_changed=False, scrub_due=False)
        case _:
            return observed
