"""The actor of a NodeCheckpoint: it alone changes what this node holds of the revision.

It gets short messages and handles each at once, without waiting for anything. What takes long is a
job that only reports. After each message it decides by ``plan`` what is next, and has its status
written. Demos ask it for a warm sandbox or a lease, and tell it what they learned.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from tryitnow.agent.checkpoints.chores import Chores
from tryitnow.agent.checkpoints.failures import EXPECTED, Blame, Failure, Job, failure_of
from tryitnow.agent.checkpoints.jobs import Change, run_job, until_unused
from tryitnow.agent.checkpoints.plan import Next, Observed, awaits_retest, is_ready, plan
from tryitnow.agent.checkpoints.precreated import PrecreatedPool
from tryitnow.agent.checkpoints.prepare import retire
from tryitnow.agent.checkpoints.state import State
from tryitnow.agent.checkpoints.status import StatusWriter, processor_message, status_of
from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.checkpoints.warm import Warm
from tryitnow.agent.checkpoints.warm_pool import Subject, WarmPool
from tryitnow.agent.counters import build_ended, fetch_ended, quarantined
from tryitnow.agent.restore.precreate import PreCreated
from tryitnow.agent.storage.generations import Generation
from tryitnow.api.definition import Definition
from tryitnow.api.limits import WRONG_PROCESSOR
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.background import gather_results, happens, in_thread
from tryitnow.podman.errors import NoSuchImageError

logger = logging.getLogger(__name__)

FIRST_LOOK_SECONDS = 10.0
"""Longest that a demo waits for it; a cold start takes longer."""


RETEST_SECONDS = 20.0
"""The same for the test restore after a change of the node's software: a restore takes seconds."""


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
        after: asyncio.Task[None] | None = None,
    ) -> None:
        """Begin; nothing is done before ``turn``.

        Args:
            tools: The node's tools.
            resource: The object.
            spare_ports: Tells how many ports no demo will need.
            storage_ok: Tells whether the node's storage is what it was.
            gone: Called when all is removed.
            after: The end of the actor of a namesake, which is awaited first: both use the same
                names of sandboxes and files.

        """
        self._tools = tools
        self._state = State(resource, tools.settings.scrub_interval, tools.clock)
        self._writer = StatusWriter(tools.start.kubernetes, tools.node_checkpoints, resource)
        self._storage_ok = storage_ok
        self._gone = gone
        self._after = after
        self._precreated = PrecreatedPool(
            tools, spare_ports=spare_ports, failed=self.restore_failed
        )
        self._warm = WarmPool(
            tools,
            changed=self.turn,
            take_precreated=self._precreated.take,
            restore_failed=self.restore_failed,
        )
        self._job: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cleaning = Chores(f"{resource.key}: cleaning up")
        self._retired: list[Generation] = []
        """Generations that somebody still uses and that go afterwards."""

        self._closed = False
        self._looked = asyncio.Event()
        """Set when the first look at what lies here has ended, well or not."""

        self._was_ready = resource.status.phase is NodeCheckpointPhase.READY
        self._missing: tuple[str, ...] = ()
        """Features of the processor that were missing when the status was last written."""

        self._retested = asyncio.Event()
        """Set while no test restore after a change of the node's software is awaited."""

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
    def warm_ready(self) -> int:
        """Number of warm sandboxes that wait."""
        return self._warm.ready

    @property
    def stock_size(self) -> int:
        """Number of sandboxes that run, or are about to, without a demo."""
        return self._warm.size

    @property
    def stock_names(self) -> set[str]:
        """Names of all sandboxes that wait, or are being made to."""
        return self._warm.names | self._precreated.names

    @property
    def waiting_names(self) -> set[str]:
        """Names of the sandboxes that wait, done."""
        return self._warm.waiting | self._precreated.names

    @property
    def ports_held(self) -> int:
        """Number of ports that pre-created sandboxes hold."""
        return self._precreated.ports_held

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
        """What demos are restored from; take a lease. None while there is nothing.

        Nothing as well while it was only tested with other software than the node has now.
        """
        is_tested = self.is_ready and self._observed().verified
        return self._state.generation if is_tested else None

    @property
    def missing_features(self) -> tuple[str, ...]:
        """Features of the processor that are missing here for it."""
        return self._state.missing_features(self._tools.start.health.current.versions)

    async def retested(self) -> None:
        """Wait until a test restore has told whether the node's new software can restore it.

        One that takes longer than ``RETEST_SECONDS`` is not waited for.
        """
        await happens(self._retested, within_seconds=RETEST_SECONDS)

    async def looked(self) -> None:
        """Wait until it is known what lies here: an agent that was just started has to look.

        A look that takes longer than ``FIRST_LOOK_SECONDS`` is not waited for.
        """
        await happens(self._looked, within_seconds=FIRST_LOOK_SECONDS)

    def take_warm(self) -> Warm | None:
        """Hand out a warm sandbox to one demo alone; None when none waits."""
        return self._warm.take()

    async def give_up_warm(self) -> bool:
        """Remove a warm sandbox, as a demo needs its memory; return whether there was one."""
        return await self._warm.give_up()

    def take_precreated(self, generation: Generation) -> PreCreated | None:
        """Hand out a pre-created sandbox to one demo alone; None when none waits."""
        return self._precreated.take(generation)

    # Messages.

    def seen(self, resource: NodeCheckpoint) -> None:
        """Handle news of the object."""
        self._writer.seen(resource)
        self.turn()

    def restore_failed(self, generation: Generation, error: Exception) -> None:
        """Handle that a sandbox could not be restored, or not be made for it."""
        state = self._state
        failure = failure_of(Job.VERIFY, error, self._tools.archives.directory)
        if generation is not state.generation or self._is_of_node(error, failure):
            return  # it says nothing about what lies here
        # SCRUB finds out whether what is prepared is still whole: `podman system prune -a` takes
        # images that nobody uses at the moment.
        state.archive_changed = True
        if failure.blame is Blame.RESTORE and state.restore_failed(generation, str(error)):
            self._quarantined()
        self.turn()

    @staticmethod
    def _is_of_node(error: Exception, failure: Failure) -> bool:
        return failure.blame is Blame.NODE and not isinstance(error, NoSuchImageError)

    def restore_succeeded(self) -> None:
        """Handle that a demo was restored."""
        if self._state.restore_failures:
            self._state.restore_succeeded()
            self.turn()

    def resync(self, *, ended: set[str], gone: set[str]) -> None:
        """Handle a look at what waits: names of sandboxes that ended, and of those gone."""
        self._warm.lost(ended=ended)
        self._warm.check()
        if self._precreated.lost(gone=gone):
            self._state.archive_changed = True  # who removed them may have removed images as well
        self.turn()

    def archive_changed(self) -> None:
        """Handle that a file changed."""
        self._state.archive_changed = True
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
        state.seen(self._writer.resource)
        following = plan(state.desired(), self._observed())
        if following.cancel and self._job is not None:
            self._job.cancel()
        elif following.start is not None and self._job is None:
            self._begin(following.start)
        self._wake_at(following.wake_at)
        if not state.resource.is_deleting:
            self._keep_stock(following)
        self._report()

    def _keep_stock(self, following: Next) -> None:
        state, definition = self._state, self.definition
        subject: Subject | None = None
        if definition is not None and state.generation is not None:
            subject = Subject(state.resource, definition, state.generation)
        self._precreated.keep(subject, following.precreated)
        self._warm.keep(subject, following.warm)

    def _observed(self) -> Observed:
        health = self._tools.start.health.current
        return self._state.observed(
            storage_ok=self._storage_ok(),
            criu_available=health.criu_available,
            versions=health.versions,
        )

    def _report(self) -> None:
        ready, missing = self.is_ready, self.missing_features
        is_retested = not awaits_retest(self._state.desired(), self._observed())
        (self._retested.set if is_retested else self._retested.clear)()
        status = status_of(
            self._state,
            ready=ready,
            storage_ok=self._storage_ok(),
            awaits_retest=not is_retested,
            missing=missing,
            warm_ready=self._warm.ready,
            warm_message=self._warm.message,
        )
        if self._state.adopted:  # what is not known yet is no news
            if ready and not self._was_ready:
                self._event("Ready", "a test restore answered on this node")
            self._was_ready = ready
            if missing and not self._missing:
                self._event(WRONG_PROCESSOR, processor_message(missing), warning=True)
            self._missing = missing
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
            if self._after is not None:
                await asyncio.wait({self._after})
            if job is Job.REMOVE:
                await self._warm.close()
                await self._precreated.close()
                # A namesake will have the same names of files.
                await gather_results(until_unused(one) for one in self._retired)
                await self._cleaning.finish()
            change = await run_job(self._tools, job, self._state, self._report_progress)
            if job is Job.ADOPT:
                change = await self._with_stock(change)
        except EXPECTED as error:
            failure = failure_of(job, error, self._tools.archives.directory)
            self._failed(job, failure, self._state.clock() - began, error)
        except Exception:
            # A bug of ours: counted as a failure, so that it is tried again after a pause.
            logger.exception("%s: %s: unexpected error", self.resource.key, job.value)
            failure = Failure(Blame.NODE, "UnexpectedError", f"{job.value} failed; see the log")
            self._failed(job, failure, self._state.clock() - began)
        else:
            self._succeeded(job, change, self._state.clock() - began)

    async def _with_stock(self, change: Change) -> Change:
        """Adopt the stock as well, once the definition is known.

        Nothing is made for it meanwhile: it would pass for what an agent before this one left.
        """
        bad = self._bad()
        change(self._state)
        if bad is None and self._bad() is not None:
            self._quarantined()
        definition = self.definition
        assert definition is not None
        await self._precreated.adopt(self._state.resource)
        await self._warm.adopt(self._state.resource, definition)

        def adopted(state: State) -> None:
            state.adopted = True

        return adopted

    def _succeeded(self, job: Job, change: Change, seconds: float) -> None:
        before, bad = self._state.generation, self._bad()
        change(self._state)
        self._state.succeeded(job)
        if bad is None and self._bad() is not None:
            self._quarantined()
        if before is not None and before is not self._state.generation:
            self._retire(before)
        self._count_success(job, timedelta(seconds=seconds))
        if job is Job.REMOVE:
            self._closed = True
            self._gone()

    def _failed(
        self, job: Job, failure: Failure, seconds: float, error: Exception | None = None
    ) -> None:
        state = self._state
        known, bad, build_failed = state.failure, self._bad(), state.build_failure is not None
        state.failed(job, failure)
        if job is Job.FETCH:
            took = timedelta(seconds=seconds)
            fetch_ended(self._tools.start.metrics, self.resource, failure.reason, took)
        if failure.blame is Blame.ARCHIVE:
            self._drop_generation()
        if state.build_failure is not None and not build_failed:
            build_ended(self._tools.start.metrics, self.resource, failure.reason, timedelta())
            # Nobody may be given an archive of which no test restore answered.
            self._drop_archive()
        if isinstance(error, NoSuchImageError):
            state.archive_changed = True
        if bad is None and self._bad() is not None:
            self._quarantined()
        elif known is None or known.reason != failure.reason:
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
        self._looked.set()
        self._state.job, self._state.progress = None, ""
        self.turn()

    def _report_progress(self, progress: str) -> None:
        logger.info("%s: %s", self.resource.key, progress)
        self._state.progress = progress
        self._report()

    def _quarantined(self) -> None:
        bad = self._bad()
        assert bad is not None
        quarantined(self._tools.start.metrics, self.resource, bad.reason)
        self._event(f"Quarantined{bad.reason}", bad.message, warning=True)

    def _bad(self) -> Failure | None:
        return self._state.damaged or self._state.unrestorable

    def _drop_generation(self) -> None:
        before, self._state.generation = self._state.generation, None
        if before is not None:
            self._retire(before)

    def _retire(self, generation: Generation) -> None:
        self._retired.append(generation)
        generation.when_unused(lambda: self._cleaning.begin(self._remove_retired(generation)))

    async def _remove_retired(self, generation: Generation) -> None:
        self._retired.remove(generation)
        await retire(self._tools, generation)

    def _drop_archive(self) -> None:
        self._drop_generation()
        self._state.archive = None
        if self._state.file is not None:
            self._cleaning.begin(in_thread(self._tools.archives.remove, self._state.file))

    def _event(self, reason: str, note: str, *, warning: bool = False) -> None:
        log = logger.warning if warning else logger.info
        log("%s: %s: %s", self.resource.key, reason, note)
        self._tools.start.kubernetes.event(self.resource, reason, note, warning=warning)

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
        await self._warm.stop()
        await self._precreated.stop()
        await self._cleaning.finish()
        await self._writer.close()
