"""What an actor says of its NodeCheckpoint: a pure function of its state, and the one writer."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from tryitnow.agent.checkpoints.failures import Job
from tryitnow.agent.checkpoints.state import State
from tryitnow.api.limits import WRONG_PROCESSOR
from tryitnow.api.meta import ConditionStatus
from tryitnow.api.nodecheckpoint import (
    NodeCheckpoint,
    NodeCheckpointPhase,
    NodeCheckpointStatus,
)
from tryitnow.api.processor import named
from tryitnow.backoff import Pauses
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError
from tryitnow.kubernetes.store import Store

logger = logging.getLogger(__name__)

Phase = NodeCheckpointPhase

_PHASES = {
    Job.BUILD: Phase.BUILDING,
    Job.FETCH: Phase.FETCHING,
    Job.PREPARE: Phase.PREPARING,
    Job.VERIFY: Phase.VERIFYING,
}

_WRITE_PAUSES = Pauses(timedelta(milliseconds=500), timedelta(seconds=30))


STORAGE_CHANGED = "StorageChanged"

RETEST_MESSAGE = (
    "a test restore answered on this node, with other software than it has now (see "
    "status.verifiedWith); a test restore with this one is under way, and demos wait for it"
)


def processor_message(missing: tuple[str, ...]) -> str:
    """Return why a checkpoint of another processor is not restored here, and what to do."""
    return (
        f"the processor of this node lacks {named(missing)}, which the processes of the checkpoint "
        "may use: keep the Checkpoint to one kind of node by spec.distribution.nodeSelector"
    )


def status_of(
    state: State,
    *,
    ready: bool,
    storage_ok: bool = True,
    awaits_retest: bool = False,
    missing: tuple[str, ...] = (),
    warm_ready: int = 0,
    warm_message: str | None = None,
) -> NodeCheckpointStatus:
    """Return the status that a state amounts to.

    Args:
        state: What is known of the revision.
        ready: Whether demos can be restored from it.
        storage_ok: Whether the node's storage is what it was.
        awaits_retest: Whether other software than now was tested.
        missing: Features of the processor that are missing for it.
        warm_ready: Number of warm sandboxes that wait.
        warm_message: Why they are fewer than wanted.

    """
    before = state.resource.status
    if storage_ok and not state.adopted and state.failure is None:
        # Nothing is known yet. What an agent before this one wrote is all that tells of its
        # archive: it holds until it was looked at.
        return before
    phase, reason, message = _phase(state, ready=ready, storage_ok=storage_ok, missing=missing)
    if phase is Phase.READY and awaits_retest:
        message = RETEST_MESSAGE
    holds = ConditionStatus.TRUE if phase is Phase.READY else ConditionStatus.FALSE
    before = before.with_condition(state.resource, "Ready", holds, reason, message)
    if not state.adopted:
        return before.model_copy(update={"phase": phase})
    return before.model_copy(
        update={
            "observed_generation": state.resource.metadata.generation,
            "phase": phase,
            "archive": state.archive if state.damaged is None else None,
            "images": state.images,
            "verified_with": state.verified_with,
            "build_duration": state.build_duration,
            "restore_failures": state.restore_failures,
            "warm_ready": warm_ready,
            "warm_message": warm_message,
            "memory_bytes": state.archive.memory_bytes if state.archive else 0,
            "disk_bytes": state.generation.disk_bytes if state.generation else 0,
            "progress": state.progress if phase is not Phase.READY else "",
        }
    )


def _phase(
    state: State, *, ready: bool, storage_ok: bool, missing: tuple[str, ...]
) -> tuple[Phase, str, str]:
    """Return phase, reason and message."""
    if not storage_ok:
        node = state.resource.spec.node_name
        message = f"`kubectl describe nodeagent {node}` says what changed, and what to do"
        return Phase.PENDING, STORAGE_CHANGED, message
    if state.build_failure is not None and state.resource.spec.fetch is None:
        return Phase.FAILED, state.build_failure.reason, state.build_failure.message
    if ready:
        return Phase.READY, "Ready", "a test restore answered on this node"
    if missing:
        is_here = state.archive is not None and state.damaged is None
        phase = Phase.QUARANTINED if is_here else Phase.PENDING
        return phase, WRONG_PROCESSOR, processor_message(missing)
    bad = state.damaged or state.unrestorable
    if bad is not None and state.job not in _PHASES:
        message = bad.message
        if state.failure is not None and state.failure is not bad:
            # What keeps it from being fetched or tested again.
            message = f"{message}\n{state.failure.reason}: {state.failure.message}"
        return Phase.QUARANTINED, bad.reason, message
    phase = _PHASES.get(state.job, Phase.PENDING) if state.job else Phase.PENDING
    if state.failure is not None:
        return phase, state.failure.reason, f"{state.failure.message}\nIt is tried again."
    return phase, str(phase), state.progress or "waiting for its turn"


class StatusWriter:
    """Writes the newest status, one write at a time, until the API server has it."""

    def __init__(
        self, kubernetes: KubernetesApi, known: Store[NodeCheckpoint], resource: NodeCheckpoint
    ) -> None:
        """Begin with an object as it was last seen; ``known`` decides which state is the newest."""
        self._kubernetes = kubernetes
        self._known = known
        self._resource = resource
        self._wanted: NodeCheckpointStatus | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def resource(self) -> NodeCheckpoint:
        """The object as last seen: by a watch, or in the answer to a write."""
        return self._resource

    def seen(self, resource: NodeCheckpoint) -> None:
        """Note the newest known state of the object.

        Its resource version may be lower than the last: the cluster was restored from a backup.
        """
        self._resource = resource

    def write(self, status: NodeCheckpointStatus) -> None:
        """Have a status written. One that comes before it was written replaces it."""
        if self._closed or status == (self._wanted or self._resource.status):
            return
        self._wanted = status
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            await self._keep_writing()
        finally:
            # Here, and not when others are told of the end: a status that comes in between would
            # be left to a task that has ended.
            self._task = self._wanted = None

    async def _keep_writing(self) -> None:
        failures = 0
        while (status := self._wanted) is not None:
            try:
                written = await self._kubernetes.patch_status(self._resource, status.to_api())
            except NotFoundError:
                return  # it is gone, or a namesake has its place
            except KubernetesError as error:
                failures += 1
                logger.warning("%s: cannot write its status: %s", self._resource.key, error)
                await asyncio.sleep(_WRITE_PAUSES.after_error(failures, error).total_seconds())
                continue
            failures = 0
            self.seen(self._known.update(written))
            if self._wanted is status:
                self._wanted = None

    async def flush(self) -> None:
        """Wait until what was to be written is written."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Write no more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
