"""The actor of a NodeCheckpoint: it alone changes what this node holds of the revision.

It gets short messages and handles each at once, without waiting for anything. What takes long is a
job that only reports. After each message it decides by ``plan`` what is next, and has its status
written. Demos ask it for a warm sandbox or a lease, and tell it what they learned.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from tryitnow.agent.checkpoints.failures import EXPECTED, Blame, Failure, Job, failure_of
from tryitnow.agent.checkpoints.jobs import Change, run_job
from tryitnow.agent.checkpoints.plan import Observed, is_ready, plan
from tryitnow.agent.checkpoints.prepare import retire
from tryitnow.agent.checkpoints.state import State
from tryitnow.agent.checkpoints.status import StatusWriter, status_of
from tryitnow.agent.checkpoints.stock import Stock
from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.checkpoints.warm_pool import Warm
from tryitnow.agent.counters import build_ended, fetch_ended, quarantined
from tryitnow.agent.errors import ArchiveError
from tryitnow.agent.restore.precreate import PreCreated
from tryitnow.agent.storage.generations import Generation
from tryitnow.api.definition import Definition
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import in_thread

logger = logging.getLogger(__name__)


class CheckpointActor:
    """One revision of a Checkpoint on this node."""

    def __init__(
        self,
        tools: CheckpointTools,
        resource: NodeCheckpoint,
        *,
        spare_ports: Callable[[], int],
        storage_ok: Callable[[], bool],
        gone: Callable[[], None],
    ) -> None:
        """Begin; nothing is done before ``turn``.

        Args:
            tools: The node's tools.
            resource: The object.
            spare_ports: Tells how many ports no demo will need.
            storage_ok: Tells whether the node's storage is what it was.
            gone: Called when all is removed.

        """
        self._tools = tools
        self._state = State(resource, tools.settings.scrub_interval)
        self._writer = StatusWriter(tools.start.kubernetes, resource)
        self._storage_ok = storage_ok
        self._gone = gone
        self._stock = Stock(
            tools,
            changed=self.turn,
            spare_ports=spare_ports,
            restore_failed=self.restore_failed,
        )
        self._job: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cleaning: set[asyncio.Task[None]] = set()
        self._closed = False
        self._was_ready = False

    # What others may ask.

    @property
    def resource(self) -> NodeCheckpoint:
        """The object as last seen."""
        return self._state.resource

    @property
    def state(self) -> State:
        """What is known of the revision here; read it, and change nothing."""
        return self._state

    @property
    def stock(self) -> Stock:
        """What waits for demos."""
        return self._stock

    @property
    def definition(self) -> Definition | None:
        """The definition; None before it was read."""
        revision = self._state.revision
        return revision.definition if revision is not None else None

    @property
    def is_ready(self) -> bool:
        """Whether demos can be restored from it."""
        return self._storage_ok() and is_ready(self._state.desired(), self._observed())

    @property
    def generation(self) -> Generation | None:
        """What demos are restored from; take a lease. None while there is nothing."""
        return self._state.generation if self.is_ready else None

    def take_warm(self) -> Warm | None:
        """Hand out a warm sandbox to one demo alone; None when none waits."""
        return self._stock.take_warm()

    def take_precreated(self, generation: Generation) -> PreCreated | None:
        """Hand out a pre-created sandbox to one demo alone; None when none waits."""
        return self._stock.take_precreated(generation)

    # Messages.

    def seen(self, resource: NodeCheckpoint) -> None:
        """Handle news of the object."""
        self._writer.seen(resource)
        self._state.resource = self._writer.resource
        self.turn()

    def restore_failed(self, generation: Generation, error: Exception) -> None:
        """Handle that a sandbox could not be restored, for a reason that is not the node's."""
        if isinstance(error, ArchiveError) or not generation.is_intact():
            self._state.touched = True  # SCRUB finds out what is wrong
        elif self._state.restore_failed(generation, str(error)):
            self._quarantined()
        self.turn()

    def restore_succeeded(self) -> None:
        """Handle that a demo was restored."""
        if self._state.restore_failures:
            self._state.restore_succeeded()
            self.turn()

    def look(self, *, ended: set[str], gone: set[str]) -> None:
        """Handle a look at what waits: names of sandboxes that ended, and of those gone."""
        self._stock.lost(ended=ended, gone=gone)
        self._stock.check()
        self.turn()

    def touched(self) -> None:
        """Handle that a file changed."""
        self._state.touched = True
        self.turn()

    def is_touched(self) -> bool:
        """Whether a file changed since it was last looked at. Blocking, and cheap."""
        state = self._state
        if state.file is None or state.archive is None or state.damaged is not None:
            return False
        if state.checked != self._tools.archives.signature(state.file):
            return True
        return state.generation is not None and not state.generation.is_intact()

    # Deciding.

    def turn(self) -> None:
        """Decide what is next, and begin it."""
        if self._closed:
            return
        state = self._state
        state.resource = self._writer.resource
        following = plan(state.desired(), self._observed())
        if following.cancel and self._job is not None:
            self._job.cancel()
        elif following.start is not None and self._job is None:
            self._begin(following.start)
        self._wake_at(following.wake_at)
        definition = self.definition
        if definition is not None and not state.resource.is_deleting:
            self._stock.keep(
                state.resource,
                definition,
                state.generation,
                warm=following.warm,
                precreated=following.precreated,
            )
        self._report()

    def _observed(self) -> Observed:
        health = self._tools.start.health.current
        return self._state.observed(
            storage_ok=self._storage_ok(),
            criu_available=health.criu_available,
            versions=health.versions,
        )

    def _report(self) -> None:
        ready = self.is_ready
        status = status_of(
            self._state,
            ready=ready,
            warm_ready=self._stock.warm_ready,
            warm_message=self._stock.message,
        )
        if ready and not self._was_ready:
            self._event("Ready", "a test restore answered on this node")
        self._was_ready = ready
        if not self._state.resource.is_deleting:
            self._writer.write(status)

    def _wake_at(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            delay = max(at - self._state.clock(), 0)
            self._timer = asyncio.get_running_loop().call_later(delay, self.turn)

    # Jobs.

    def _begin(self, job: Job) -> None:
        self._state.job, self._state.progress = job, ""
        if job is Job.BUILD:
            self._state.build_began = self._state.clock()
        self._job = asyncio.create_task(self._work(job), name=f"{job.value} {self.resource.key}")
        self._job.add_done_callback(lambda _: self._job_ended())

    async def _work(self, job: Job) -> None:
        began = self._state.clock()
        try:
            if job is Job.REMOVE:
                await self._stock.close()
            change = await run_job(self._tools, job, self._state, self._tell)
            if job is Job.ADOPT:
                change = await self._with_stock(change)
        except EXPECTED as error:
            failure = failure_of(job, error, self._tools.archives.directory)
            self._failed(job, failure, self._state.clock() - began)
        except Exception:
            # A bug of ours: counted as a failure, so that it is tried again after a pause.
            logger.exception("%s: %s: unexpected error", self.resource.key, job.value)
            failure = Failure(Blame.NODE, "UnexpectedError", f"{job.value} failed; see the log")
            self._failed(job, failure, self._state.clock() - began)
        else:
            self._succeeded(job, change, self._state.clock() - began)

    async def _with_stock(self, change: Change) -> Change:
        """Adopt the stock as well, once the definition is known."""
        change(self._state)
        definition = self.definition
        if definition is not None:
            await self._stock.adopt(self._state.resource, definition)
        return lambda _: None

    def _succeeded(self, job: Job, change: Change, seconds: float) -> None:
        before = self._state.generation
        change(self._state)
        self._state.succeeded()
        if before is not None and before is not self._state.generation:
            before.when_unused(lambda: self._clean(retire(self._tools, before)))
        self._count_success(job, timedelta(seconds=seconds))
        if job is Job.REMOVE:
            self._closed = True
            self._gone()

    def _failed(self, job: Job, failure: Failure, seconds: float) -> None:
        said = self._state.failure
        self._state.failed(job, failure)
        if job is Job.FETCH:
            took = timedelta(seconds=seconds)
            fetch_ended(self._tools.start.metrics, self.resource, failure.reason, took)
        if failure.blame is Blame.ARCHIVE:
            self._drop_generation()
        if self._state.build_failure is not None:
            build_ended(self._tools.start.metrics, self.resource, failure.reason, timedelta())
            # Nobody may be given an archive of which no test restore answered.
            self._drop_archive()
        if self._state.damaged or self._state.unrestorable:
            self._quarantined()
        elif said is None or said.reason != failure.reason:
            self._event(failure.reason, failure.message, warning=True)

    def _count_success(self, job: Job, took: timedelta) -> None:
        metrics, state = self._tools.start.metrics, self._state
        if job is Job.FETCH:
            fetch_ended(metrics, self.resource, "Fetched", took)
        if job is Job.VERIFY and state.build_began is not None:
            state.build_duration = timedelta(seconds=state.clock() - state.build_began)
            state.build_began = None
            build_ended(metrics, self.resource, "Verified", state.build_duration)

    def _job_ended(self) -> None:
        self._job = None
        self._state.job, self._state.progress = None, ""
        self.turn()

    def _tell(self, progress: str) -> None:
        logger.info("%s: %s", self.resource.key, progress)
        self._state.progress = progress
        self._report()

    def _quarantined(self) -> None:
        bad = self._state.damaged or self._state.unrestorable
        assert bad is not None
        quarantined(self._tools.start.metrics, self.resource, bad.reason)
        self._event(f"Quarantined{bad.reason}", bad.message, warning=True)

    def _drop_generation(self) -> None:
        before, self._state.generation = self._state.generation, None
        if before is not None:
            before.when_unused(lambda: self._clean(retire(self._tools, before)))

    def _drop_archive(self) -> None:
        self._drop_generation()
        self._state.archive = None
        if self._state.file is not None:
            self._clean(in_thread(self._tools.archives.remove, self._state.file))

    def _event(self, reason: str, note: str, *, warning: bool = False) -> None:
        log = logger.warning if warning else logger.info
        log("%s: %s: %s", self.resource.key, reason, note)
        self._tools.start.kubernetes.event(self.resource, reason, note, warning=warning)

    def _clean(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._cleaned(work))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def _cleaned(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except EXPECTED as error:
            # What is left is found as what nobody owns.
            logger.warning("%s: cannot clean up: %s", self.resource.key, error)

    # The end.

    async def forget(self) -> None:
        """Handle that the object is gone without having been removed here: leave its files.

        They are found as files that nobody owns, and go after a grace period.
        """
        self._closed = True
        await self.stop()

    async def stop(self) -> None:
        """End with the agent: what is here stays for the next one."""
        self._closed = True
        self._wake_at(None)
        if self._job is not None:
            self._job.cancel()
            await asyncio.gather(self._job, return_exceptions=True)
        await self._stock.stop()
        await asyncio.gather(*self._cleaning, return_exceptions=True)
        await self._writer.close()
