"""Leader election with client-go's own times, on a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.unit.virtual_time import in_virtual_time
from tryitnow.kubernetes.election import LeaderElection, LeadershipLostError, Timing
from tryitnow.kubernetes.errors import ConflictError, KubernetesError, NotFoundError
from tryitnow.kubernetes.lease import Lease

LEASE_S = Timing().lease_duration.total_seconds()
DEADLINE_S = Timing().renew_deadline.total_seconds()
RETRY_S = Timing().retry_period.total_seconds()
RECHECK_S = RETRY_S * 1.2
"""Longest pause between two looks of one who waits."""


@dataclass
class Store:
    """The API server's one Lease: whole writes, each over the version that was read."""

    lease: Lease | None = None
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def put(self, lease: Lease) -> Lease:
        self.lease = replace(lease, version=str(next(self.versions)))
        return self.lease


class FlakyApi:
    """One candidate's way to the store, which can be slow, closed or dead."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_closed = False
        self.hangs = False
        self.answers_late = False

    async def _pass(self) -> None:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0.01)
        if self.is_closed:
            msg = "the API server does not answer"
            raise KubernetesError(msg)

    async def read(self) -> Lease:
        await self._pass()
        if self.store.lease is None:
            raise NotFoundError("no lease")
        return self.store.lease

    async def create(self, lease: Lease) -> Lease:
        await self._pass()
        if self.store.lease is not None:
            raise ConflictError("it exists")
        return self.store.put(lease)

    async def replace(self, lease: Lease) -> Lease:
        await self._pass()
        if self.store.lease is None:
            raise NotFoundError("no lease")
        if self.store.lease.version != lease.version:
            raise ConflictError("another version")
        written = self.store.put(lease)
        if self.answers_late:
            self.answers_late = False
            raise KubernetesError("written, but the answer is lost")
        return written


class Candidate:
    """A process that wants to lead."""

    def __init__(self, name: str, store: Store, acting: list[str]) -> None:
        self.name = name
        self.api = FlakyApi(store)
        self.election = LeaderElection(self.api, name)
        self.stop = asyncio.Event()
        self.leads_since: float | None = None
        self.acting = acting
        self.task = asyncio.create_task(self.election.lead(self._work, self.stop))

    async def _work(self) -> None:
        assert self.acting == [], f"{self.name} acts beside {self.acting}"
        self.acting.append(self.name)
        self.leads_since = time()
        try:
            await self.stop.wait()
        finally:
            self.acting.remove(self.name)

    def crash(self) -> None:
        """End without a word to anybody, as kill -9 does."""
        self.api.is_closed = True
        self.task.cancel()


def time() -> float:
    return asyncio.get_running_loop().time()


class Cluster:
    def __init__(self) -> None:
        self.store = Store()
        self.acting: list[str] = []
        self.candidates: list[Candidate] = []

    def candidate(self, name: str) -> Candidate:
        candidate = Candidate(name, self.store, self.acting)
        self.candidates.append(candidate)
        return candidate

    async def leader(self, name: str) -> Candidate:
        candidate = self.candidate(name)
        await asyncio.sleep(1)
        assert candidate.election.is_leader
        return candidate

    async def close(self) -> None:
        for candidate in self.candidates:
            candidate.task.cancel()
        await asyncio.gather(*(c.task for c in self.candidates), return_exceptions=True)


def scenario(
    test: Callable[[Cluster], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    async def played() -> None:
        cluster = Cluster()
        try:
            await test(cluster)
        finally:
            await cluster.close()

    def run() -> None:
        in_virtual_time(played())

    run.__name__ = test.__name__
    return run


@scenario
async def test_one_of_three_leads_and_goes_on_leading(cluster: Cluster) -> None:
    three = [cluster.candidate(name) for name in "abc"]
    await asyncio.sleep(10 * LEASE_S)
    assert sum(c.election.is_leader for c in three) == 1
    assert len(cluster.acting) == 1
    assert cluster.store.lease
    assert cluster.store.lease.holder == cluster.acting[0]
    assert cluster.store.lease.transitions == 0


@scenario
async def test_a_leader_that_stops_hands_over_at_once(cluster: Cluster) -> None:
    first = await cluster.leader("first")
    second = cluster.candidate("second")
    await asyncio.sleep(LEASE_S)
    first.stop.set()
    await first.task
    assert cluster.store.lease
    assert cluster.store.lease.holder == ""
    stopped_at = time()
    await asyncio.sleep(RECHECK_S + 1)
    assert second.leads_since is not None
    assert second.leads_since - stopped_at <= RECHECK_S + 0.1
    assert cluster.store.lease.transitions == 1


@scenario
async def test_a_killed_leader_is_followed_when_its_lease_has_run_out(cluster: Cluster) -> None:
    first = await cluster.leader("first")
    second = cluster.candidate("second")
    await asyncio.sleep(LEASE_S)
    first.crash()
    killed_at = time()
    await asyncio.sleep(LEASE_S - RECHECK_S - RETRY_S)
    assert second.leads_since is None, "its lease had not run out"
    await asyncio.sleep(3 * RECHECK_S + RETRY_S)
    assert second.leads_since is not None
    # It sees the last renewal at its next look, and that it has run out at another.
    assert second.leads_since - killed_at <= LEASE_S + 2 * RECHECK_S + 0.1


@pytest.mark.parametrize("how", ["is_closed", "hangs"])
def test_a_leader_that_cannot_renew_stops_before_another_leads(how: str) -> None:
    @scenario
    async def run(cluster: Cluster) -> None:
        first = await cluster.leader("first")
        second = cluster.candidate("second")
        await asyncio.sleep(LEASE_S)
        setattr(first.api, how, True)
        cut_off_at = time()
        with pytest.raises(LeadershipLostError, match="could not renew"):
            await first.task
        assert time() - cut_off_at <= DEADLINE_S
        await asyncio.sleep(0)  # the work is told in this very moment
        assert cluster.acting == []
        assert not first.election.is_leader
        await asyncio.sleep(LEASE_S)
        assert cluster.acting == ["second"]
        assert second.leads_since is not None

    run()


@scenario
async def test_a_short_failure_costs_nothing(cluster: Cluster) -> None:
    leader = await cluster.leader("first")
    cluster.candidate("second")
    for _ in range(5):
        leader.api.is_closed = True
        await asyncio.sleep(DEADLINE_S - 2 * RETRY_S)
        leader.api.is_closed = False
        await asyncio.sleep(2 * RETRY_S)
    assert cluster.acting == ["first"]


@scenario
async def test_a_renewal_whose_answer_was_lost_counts(cluster: Cluster) -> None:
    leader = await cluster.leader("first")
    leader.api.answers_late = True
    await asyncio.sleep(2 * LEASE_S)
    assert cluster.acting == ["first"]
    assert not leader.task.done()


@scenario
async def test_somebody_who_labels_the_lease_changes_nothing(cluster: Cluster) -> None:
    leader = await cluster.leader("first")
    assert cluster.store.lease
    cluster.store.put(cluster.store.lease)
    await asyncio.sleep(2 * LEASE_S)
    assert leader.election.is_leader


@scenario
async def test_a_lease_that_was_deleted_is_made_anew_by_its_holder(cluster: Cluster) -> None:
    await cluster.leader("first")
    cluster.candidate("second")
    await asyncio.sleep(LEASE_S)
    for _ in range(20):  # whoever looks next
        cluster.store.lease = None
        await asyncio.sleep(LEASE_S + random.uniform(0, RETRY_S))
        assert cluster.acting == ["first"]
    assert cluster.store.lease


@scenario
async def test_a_lease_that_was_deleted_after_a_crash_is_made_by_another(cluster: Cluster) -> None:
    before = await cluster.leader("first")
    cluster.candidate("second")
    await asyncio.sleep(LEASE_S)
    before.crash()
    cluster.store.lease = None
    await asyncio.sleep(LEASE_S + 2 * RECHECK_S)
    assert cluster.acting == ["second"]


@scenario
async def test_a_leader_whose_lease_was_taken_stops(cluster: Cluster) -> None:
    leader = await cluster.leader("first")
    assert cluster.store.lease
    cluster.store.put(replace(cluster.store.lease, holder="somebody"))
    with pytest.raises(LeadershipLostError, match="somebody leads now"):
        await asyncio.wait_for(leader.task, RETRY_S + 1)


@scenario
async def test_the_same_pod_goes_on_at_once_after_a_crash(cluster: Cluster) -> None:
    before = await cluster.leader("pod")
    before.crash()
    await asyncio.sleep(0.1)
    after = await cluster.leader("pod")
    assert after.leads_since is not None
    assert cluster.store.lease
    assert cluster.store.lease.transitions == 0


@scenario
async def test_who_waits_knows_a_leader_once_it_has_seen_one(cluster: Cluster) -> None:
    second = cluster.candidate("second")
    second.api.is_closed = True
    await cluster.leader("first")
    assert not second.election.knows_leader, "it could not read the lease yet"
    second.api.is_closed = False
    await asyncio.sleep(RECHECK_S + 0.1)
    assert second.election.knows_leader
    assert not second.election.is_leader


@scenario
async def test_one_that_waits_can_be_stopped(cluster: Cluster) -> None:
    await cluster.leader("first")
    second = cluster.candidate("second")
    await asyncio.sleep(1)
    second.stop.set()
    await asyncio.wait_for(second.task, 0.1)
    assert second.leads_since is None
    assert cluster.store.lease
    assert cluster.store.lease.holder == "first"


@scenario
async def test_work_that_fails_is_reported_and_gives_the_lease_back(cluster: Cluster) -> None:
    async def fail() -> None:
        msg = "broken"
        raise RuntimeError(msg)

    election = LeaderElection(FlakyApi(cluster.store), "first")
    with pytest.raises(RuntimeError, match="broken"):
        await election.lead(fail, asyncio.Event())
    assert cluster.store.lease
    assert cluster.store.lease.holder == ""


@scenario
async def test_without_rights_nobody_leads(cluster: Cluster) -> None:
    candidate = cluster.candidate("first")
    candidate.api.is_closed = True
    await asyncio.sleep(LEASE_S)
    assert cluster.acting == []
    candidate.api.is_closed = False
    await asyncio.sleep(RECHECK_S + 0.1)
    assert cluster.acting == ["first"]
