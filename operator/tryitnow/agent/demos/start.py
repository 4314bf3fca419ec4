"""The ladder: a warm sandbox, else a restore, else a cold start, and why. One loop, one result."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.agent.checkpoints.reconcile import CheckpointActor
from tryitnow.agent.checkpoints.status import processor_message
from tryitnow.agent.demos.claim import Claim, claim
from tryitnow.agent.demos.personalize import personalize
from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.errors import HookError, NodeShortError, NotReadyError, SandboxError
from tryitnow.agent.restore.cold_start import cold_start
from tryitnow.agent.restore.fill import restore
from tryitnow.agent.restore.result import Running
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.agent.storage.files import short_of_disk
from tryitnow.api.archive import Versions
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance, FallbackReason, StartedBy, StartPolicy
from tryitnow.api.limits import WRONG_PROCESSOR
from tryitnow.podman.client import PortMapping
from tryitnow.podman.errors import NodeLimitError, PodmanError

logger = logging.getLogger(__name__)


class RestoreImpossibleError(Exception):
    """No restore is possible here now.

    Attributes:
        reason: Why, for programs.
        limit: The limit of the node that is reached, where that is why.

    """

    def __init__(self, reason: FallbackReason, message: str, *, limit: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.limit = limit


@dataclass(frozen=True)
class Started:
    """A demo that clients reach, and how it came to be."""

    running: Running
    fallback: RestoreImpossibleError | None = None
    """Why it was started cold although a restore was allowed."""


async def start(
    tools: DemoTools,
    demo: DemoInstance,
    revision: CheckpointRevision,
    ports: Iterable[PortMapping] = (),
) -> Started:
    """Start a demo by the best way that works, and wait until clients are answered.

    When that fails, nothing is left behind.

    Args:
        tools: The node's tools.
        demo: A demo without data: what an interrupted start left of it is removed.
        revision: What to start.
        ports: Ports that it had before; by default it gets free ones.

    Raises:
        RestoreImpossibleError: only a restore is allowed, and it is not possible.
        Any error of ``cold_start`` and ``personalize``: the cold start failed as well.

    """
    name, wanted = demo_name(demo), tuple(ports)
    if tools.start.sandboxes.may_exist(name):
        await tools.start.sandboxes.remove(name)
    began = time.monotonic()
    fallback: RestoreImpossibleError | None = None
    for way in _ladder(demo.spec.start):
        if way is StartedBy.COLD_START:
            lost = timedelta(seconds=time.monotonic() - began) if fallback else None
            running = await _cold(tools, demo, revision, wanted, lost)
            return Started(running, fallback)
        try:
            return Started(await _restored(tools, demo, revision, wanted))
        except RestoreImpossibleError as error:
            if demo.spec.start is StartPolicy.RESTORE_ONLY:
                raise
            fallback = error
            logger.warning("%s: %s: %s", demo.key, error.reason, error)
    raise AssertionError(demo.spec.start)


def _ladder(policy: StartPolicy) -> tuple[StartedBy, ...]:
    """Ways of starting in their order; a warm sandbox is a restore that was made before."""
    match policy:
        case StartPolicy.COLD_START:
            return (StartedBy.COLD_START,)
        case StartPolicy.RESTORE_ONLY:
            return (StartedBy.RESTORE,)
        case StartPolicy.PREFER_RESTORE:
            return (StartedBy.RESTORE, StartedBy.COLD_START)


async def _cold(
    tools: DemoTools,
    demo: DemoInstance,
    revision: CheckpointRevision,
    ports: tuple[PortMapping, ...],
    lost: timedelta | None,
) -> Running:
    definition = revision.definition
    if not revision.status.images:
        # It may have been built since this node read it.
        assert demo.revision_key is not None
        revision = await tools.revisions.get(demo.revision_key, need_images=True)
    if revision.status.archive is not None:
        await tools.checkpoints.make_room(revision.status.archive.memory_bytes)
    started = await cold_start(
        tools.start,
        demo_name(demo),
        definition,
        revision.status.images,
        ports=ports,
        host=demo.metadata.name,
    )
    running = started.running
    hooks = await _personalized(tools, demo, revision, running, definition.readiness.timeout)
    timings = running.timings.model_copy(update={"hooks": hooks, "fallback": lost})
    return Running(running.sandbox, running.started_by, timings)


async def _personalized(
    tools: DemoTools,
    demo: DemoInstance,
    revision: CheckpointRevision,
    running: Running,
    deadline: timedelta,
) -> timedelta | None:
    """Let clients in, or leave nothing of the sandbox behind."""
    try:
        return await personalize(tools, demo, revision.definition, running, deadline)
    except BaseException:
        await tools.start.sandboxes.remove(demo_name(demo))
        raise


async def _restored(
    tools: DemoTools,
    demo: DemoInstance,
    revision: CheckpointRevision,
    ports: tuple[PortMapping, ...],
) -> Running:
    actor = tools.checkpoints.find(demo.checkpoint_key, revision.spec.identity)
    if actor is not None:
        await actor.looked()
    claimed = Claim()
    if actor is not None and not ports:
        # A warm sandbox has ports of its own already.
        claimed = await claim(tools, demo, actor, revision.definition)
    running = claimed.running or await _restore(tools, demo, actor, revision, ports)
    hooks: timedelta | None = None
    if not claimed.is_personal:
        hooks = await _restored_personalized(tools, demo, revision, running)
    timings = running.timings.model_copy(update={"claim": claimed.took, "hooks": hooks})
    return Running(running.sandbox, running.started_by, timings)


async def _restored_personalized(
    tools: DemoTools, demo: DemoInstance, revision: CheckpointRevision, running: Running
) -> timedelta | None:
    deadline = revision.definition.readiness.restore_timeout
    try:
        return await _personalized(tools, demo, revision, running, deadline)
    except HookError as error:
        # What was restored is as it was at the checkpoint: another restore gives the hook nothing
        # else.
        raise RestoreImpossibleError(FallbackReason.HOOK_FAILED, str(error)) from error
    except NotReadyError as error:
        msg = f"the restored demo stopped answering: {error}"
        raise RestoreImpossibleError(FallbackReason.RESTORE_NOT_READY, msg) from error
    except (PodmanError, SandboxError) as error:
        raise _impossible(error) from error


async def _restore(
    tools: DemoTools,
    demo: DemoInstance,
    actor: CheckpointActor | None,
    revision: CheckpointRevision,
    ports: tuple[PortMapping, ...],
) -> Running:
    health = tools.start.health.current
    node = tools.settings.node_name
    if not health.criu_available:
        msg = (
            f"CRIU not available - will use cold start: {health.criu_message}; "
            f"`kubectl describe nodeagent {node}` says what to do"
        )
        raise RestoreImpossibleError(FallbackReason.CRIU_NOT_AVAILABLE, msg)
    if actor is not None:
        await actor.retested()
    generation = actor.generation if actor is not None else None
    if actor is None or generation is None:
        raise _not_ready_here(demo, actor, revision, health.versions, node)
    try:
        with generation.leased():
            memory_bytes = await asyncio.to_thread(generation.memory_bytes)
            with tools.start.memory.counted(memory_bytes):
                await tools.checkpoints.make_room(0)
                # Not before: what is taken is given back by the restore alone.
                ready_made = None if ports else actor.take_precreated(generation)
                running = await restore(
                    tools.start,
                    demo_name(demo),
                    revision.definition,
                    generation,
                    ready_made,
                    checkpoint=demo.checkpoint_key,
                    ports=ports,
                )
    except NotReadyError as error:
        actor.restore_failed(generation, error)
        msg = (
            f"the restored demo did not answer: {error}; "
            "if it only needs longer, raise spec.readiness.restoreTimeout of the Checkpoint"
        )
        raise RestoreImpossibleError(FallbackReason.RESTORE_NOT_READY, msg) from error
    except (NodeShortError, NodeLimitError, SandboxError) as error:
        # A limit of the node, or a Secret that is missing: the archive is not to blame.
        raise _impossible(error) from error
    except OSError as error:
        path = tools.settings.checkpoint_path
        raise _impossible(short_of_disk(error, "cannot restore it", path)) from error
    except PodmanError as error:
        actor.restore_failed(generation, error)
        raise _impossible(error) from error
    actor.restore_succeeded()
    return running


def _impossible(error: Exception) -> RestoreImpossibleError:
    if isinstance(error, (NodeShortError, NodeLimitError)):
        limit, message = error.limit, f"{error.limit}: {error}"
        return RestoreImpossibleError(FallbackReason.NODE_LIMIT, message, limit=limit)
    return RestoreImpossibleError(FallbackReason.RESTORE_FAILED, str(error))


def _not_ready_here(
    demo: DemoInstance,
    actor: CheckpointActor | None,
    revision: CheckpointRevision,
    versions: Versions,
    node: str,
) -> RestoreImpossibleError:
    checkpoint = demo.spec.checkpoint_ref.name
    archive = revision.status.archive
    missing = actor.missing_features if actor is not None else ()
    if actor is None and archive is not None:
        missing = versions.missing_for(archive.versions)
    if missing:
        return RestoreImpossibleError(
            FallbackReason.NODE_LIMIT, processor_message(missing), limit=WRONG_PROCESSOR
        )
    damaged = actor.state.damaged if actor is not None else None
    unrestorable = actor.state.unrestorable if actor is not None else None
    if damaged is not None:
        return RestoreImpossibleError(FallbackReason.ARCHIVE_DAMAGED, damaged.message)
    if unrestorable is not None:
        return RestoreImpossibleError(FallbackReason.RESTORE_FAILED, unrestorable.message)
    msg = (
        f"{node} has no archive of {checkpoint} of which a test restore answered (yet); "
        f"`kubectl describe checkpoint {checkpoint}` says how far it is"
    )
    return RestoreImpossibleError(FallbackReason.NOT_READY_HERE, msg)
