"""Leader election: of several processes that could act, one does. Times and rules are client-go's.

Kopf's peering is none: peers of the same priority warn each other and all go on, and nothing is
written under a condition. The client's own ``kubernetes.aio.leaderelection`` lets a request outlast
the lease, reads wall clocks, does not notice that the work has ended and gives nothing back.

What keeps two from acting at once: a Lease is only ever written over the version that was read; a
holder counts its time from the moment *before* it asked for the renewal, those who wait from the
moment *after* they saw it; and the holder stops at ``RENEW_DEADLINE``, well before the others may
take over at ``LEASE_DURATION``. No clock of one machine is compared with that of another.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from tryitnow.api.meta import now
from tryitnow.background import happens
from tryitnow.kubernetes.errors import ConflictError, KubernetesError, NotFoundError
from tryitnow.kubernetes.lease import Lease, Leases

logger = logging.getLogger(__name__)


class LeadershipLostError(Exception):
    """The lease could not be renewed in time: another process leads, or soon will."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long is waited for what: by default as in client-go's ``leaderelection``."""

    lease_duration: timedelta = timedelta(seconds=15)
    """Those who wait take over when they have seen no renewal for that long."""

    renew_deadline: timedelta = timedelta(seconds=10)
    """The leader gives up when it could not renew for that long."""

    retry_period: timedelta = timedelta(seconds=2)
    """Between two renewals, and between two looks of those who wait."""


class LeaderElection:
    """One candidate for one Lease."""

    def __init__(self, leases: Leases, identity: str, timing: Timing | None = None) -> None:
        """Make a candidate.

        Args:
            leases: Where the Lease is kept.
            identity: Whom the Lease names as its holder. Two processes that may run at the same
                time must have different ones.
            timing: Other times, for tests.

        """
        self._leases = leases
        self._identity = identity
        self._timing = timing or Timing()
        self._mine: Lease | None = None
        """The Lease as this process wrote it last."""
        self._held_since = 0.0
        self._seen: Lease | None = None
        """The Lease as last read, and when it was first seen like that."""
        self._seen_at = 0.0

    @property
    def is_leader(self) -> bool:
        """Whether this process is the one that acts."""
        return self._mine is not None

    @property
    def knows_leader(self) -> bool:
        """Whether this process leads, or has seen who does."""
        return self.is_leader or (self._seen is not None and self._is_taken(self._seen))

    async def lead(self, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        """Wait for the Lease, work while it is held, and give it back when the work has ended.

        Args:
            work: What only the leader does; it ends by itself when the process is to stop.
            stop: Set when the process is to stop; then a candidate waits no longer.

        Raises:
            LeadershipLostError: the Lease could not be renewed. The work is cancelled but may not
                have ended: end the process, so that nothing of it is written any more.

        """
        if not await self._acquire(stop):
            return
        logger.info("%s leads", self._identity)
        working = asyncio.ensure_future(work())
        renewing = asyncio.create_task(self._keep_renewing())
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_over = working.done()
            working.cancel()
            renewing.cancel()
        if not is_over:
            self._mine = None
            await renewing  # it has ended, so this raises at once
        await asyncio.gather(renewing, return_exceptions=True)
        await self._release()
        await working

    async def _acquire(self, stop: asyncio.Event) -> bool:
        """Wait for the Lease; False when the process is to stop before."""
        period = self._timing.retry_period.total_seconds()
        while not stop.is_set():
            if await self._attempt():
                return True
            # Not all candidates at the same moment.
            await happens(stop, within_seconds=period * random.uniform(1.0, 1.2))
        return False

    async def _keep_renewing(self) -> None:
        """Renew the Lease again and again.

        Raises:
            LeadershipLostError: it is another's, or could not be renewed in time.

        """
        period = self._timing.retry_period.total_seconds()
        deadline = self._timing.renew_deadline.total_seconds()
        while True:
            await asyncio.sleep(period)
            try:
                async with asyncio.timeout_at(self._held_since + deadline):
                    while not await self._attempt():
                        if self._seen is not None and self._is_taken(self._seen):
                            msg = f"{self._seen.holder} leads now: {self._identity} has to stop"
                            raise LeadershipLostError(msg)
                        await asyncio.sleep(period)
            except TimeoutError as error:
                msg = (
                    f"{self._identity} could not renew its lease for {deadline:g} s and has to "
                    "stop: see the warnings before"
                )
                raise LeadershipLostError(msg) from error

    async def _attempt(self) -> bool:
        """Try once to get or to renew the Lease; returns whether it is held now."""
        try:
            if self._mine is not None:
                try:
                    return await self._write(self._mine)
                except (ConflictError, NotFoundError):
                    pass  # somebody wrote or removed it: look what is there
            return await self._take()
        except ConflictError:
            return False  # another candidate was faster
        except KubernetesError as error:
            logger.warning("%s", error)
            return False

    async def _take(self) -> bool:
        """Get the Lease if it is free, outdated or our own."""
        try:
            found = await self._leases.read()
        except NotFoundError:
            if self._seen is not None and self._may_still_act(self._seen):
                return False  # somebody deleted it, which does not stop its holder
            at = now()
            return await self._write(
                Lease(
                    holder="",
                    duration=self._timing.lease_duration,
                    acquired=at,
                    renewed=at,
                    transitions=0,
                ),
                first=True,
            )
        if found != self._seen:
            self._seen, self._seen_at = found, asyncio.get_running_loop().time()
        return False if self._may_still_act(found) else await self._write(found)

    def _may_still_act(self, seen: Lease) -> bool:
        """Whether another holds the Lease that was seen last, and has not let it run out."""
        left = self._seen_at + seen.duration.total_seconds() - asyncio.get_running_loop().time()
        return self._is_taken(seen) and left > 0

    def _is_taken(self, lease: Lease) -> bool:
        return lease.holder not in {"", self._identity}

    async def _write(self, before: Lease, *, first: bool = False) -> bool:
        """Write ourselves into the Lease, over the version that was seen."""
        at = now()
        mine = replace(
            before,
            holder=self._identity,
            duration=self._timing.lease_duration,
            acquired=before.acquired if before.holder == self._identity else at,
            renewed=at,
            transitions=before.transitions + (not first and before.holder != self._identity),
        )
        asked_at = asyncio.get_running_loop().time()
        self._mine = await (self._leases.create(mine) if first else self._leases.replace(mine))
        self._held_since = asked_at
        return True

    async def _release(self) -> None:
        """Give the Lease back, so that the next leader need not wait until it has run out."""
        self._mine = None
        try:
            # Read anew: the answer to our last renewal may not have arrived.
            found = await self._leases.read()
            if found.holder != self._identity:
                return
            # A second, not zero, which the API server refuses; client-go writes the same.
            free = replace(found, holder="", duration=timedelta(seconds=1), renewed=now())
            await self._leases.replace(free)
        except KubernetesError as error:
            logger.warning("the lease could not be released and will expire: %s", error)
        else:
            logger.info("%s released its lease", self._identity)
