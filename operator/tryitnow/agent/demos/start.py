"""The ladder: claim a warm copy, else thaw one, else start cold, and say why."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import timedelta

from tryitnow.agent.admit import admit
from tryitnow.agent.archive import ArchiveError
from tryitnow.agent.coldstart import cold_start
from tryitnow.agent.hooks import HookError
from tryitnow.agent.names import demo_container
from tryitnow.agent.node import Node
from tryitnow.agent.probe import NotReadyError
from tryitnow.agent.restore import Unserved, thaw
from tryitnow.agent.sandbox import Sandbox, SandboxError
from tryitnow.agent.sandboxes import discard
from tryitnow.agent.unpack import UnpackError
from tryitnow.agent.warm import Claim, claim
from tryitnow.api.checkpoint import Blueprint, Checkpoint
from tryitnow.api.demoinstance import (
    DemoInstance,
    FallbackReason,
    RestoredFrom,
    StartedBy,
    StartPolicy,
    Timings,
)
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint, node_checkpoint_name
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError

logger = logging.getLogger(__name__)


class ThawImpossibleError(Exception):
    """This rung cannot be taken.

    Attributes:
        reason: Why, for programs.
        copy_is_bad: Whether the archive is damaged.
        copy_failed: Whether it is whole, but could not be thawed.

    """

    def __init__(self, reason: FallbackReason, message: str, *, blames_copy: bool = True) -> None:
        super().__init__(message)
        self.reason = reason
        self.copy_is_bad = reason is FallbackReason.COPY_CORRUPT
        self.copy_failed = blames_copy and reason in {
            FallbackReason.RESTORE_FAILED,
            FallbackReason.RESTORE_NOT_READY,
        }


def _restore_failed(error: Exception) -> ThawImpossibleError:
    # A full disk or a Secret that is missing: another copy would do no better.
    blames_copy = not isinstance(error, (SandboxError, OSError))
    return ThawImpossibleError(FallbackReason.RESTORE_FAILED, str(error), blames_copy=blames_copy)


@dataclass(frozen=True)
class Outcome:
    """A running instance, and how it came to be."""

    started_by: StartedBy
    sandbox: Sandbox
    probe_port: int
    timings: Timings
    restored_from: RestoredFrom | None = None
    fallback: ThawImpossibleError | None = None
    unserved: Unserved | None = None
    """What was prepared and did not serve, where a slower thaw did."""


def find_copy(node: Node, instance: DemoInstance) -> NodeCheckpoint | None:
    """Return this node's copy of the revision that the instance was bound to."""
    revision = instance.status.revision
    if revision is None:
        return None
    name = node_checkpoint_name(instance.spec.checkpoint_ref.name, revision, node.name)
    return node.copies.get(Key(instance.metadata.namespace, name))


async def start(node: Node, instance: DemoInstance) -> Outcome:
    """Start an instance by the best way that works, and wait until it answers.

    Raises:
        ThawImpossibleError: only a thaw is allowed, and it is not possible.
        ImagePullError, NotReadyError, NoPortError, PodmanError, SandboxError, HookError: the cold
            start failed as well.
        NotFoundError: the Checkpoint is gone.

    """
    copy = find_copy(node, instance)
    began = time.monotonic()
    fallback: ThawImpossibleError | None = None
    if instance.spec.start is not StartPolicy.COLD_START:
        try:
            return await _claim_or_thaw(node, instance, copy)
        except ThawImpossibleError as error:
            if instance.spec.start is StartPolicy.RESTORE_ONLY:
                raise
            fallback = error
            logger.warning("%s: %s: %s", instance.key, error.reason, error)
    lost = timedelta(seconds=time.monotonic() - began) if fallback else None
    blueprint = await blueprint_of(node, instance, copy)
    started = await cold_start(node, demo_container(instance), blueprint)
    hooks = await _admit(node, instance, blueprint, started.sandbox, StartedBy.COLD_START)
    return Outcome(
        started_by=StartedBy.COLD_START,
        sandbox=started.sandbox,
        probe_port=blueprint.probe_port,
        timings=Timings(
            prepare=started.prepare,
            cold_start=started.cold_start,
            probe=started.probe,
            hooks=hooks,
            fallback=lost,
        ),
        fallback=fallback,
    )


async def _claim_or_thaw(
    node: Node, instance: DemoInstance, copy: NodeCheckpoint | None
) -> Outcome:
    claimed = await claim(node, instance, copy) if copy is not None else Claim()
    if copy is not None and claimed.sandbox is not None:
        outcome = Outcome(
            started_by=StartedBy.WARM,
            sandbox=claimed.sandbox,
            probe_port=copy.spec.blueprint.probe_port,
            timings=Timings(),
        )
    else:
        outcome = await _thaw(node, instance, copy)
    blueprint = await blueprint_of(node, instance, copy)
    try:
        hooks = await _admit(node, instance, blueprint, outcome.sandbox, outcome.started_by)
    except HookError as error:
        # What was thawed is as it was frozen: the archive would give the hook nothing else.
        raise ThawImpossibleError(FallbackReason.HOOK_FAILED, str(error)) from error
    except NotReadyError as error:
        msg = f"the thawed copy stopped answering: {error}"
        raise ThawImpossibleError(FallbackReason.RESTORE_NOT_READY, msg) from error
    except PodmanUnreachableError:
        raise
    except (PodmanError, SandboxError) as error:
        raise _restore_failed(error) from error
    timings = outcome.timings.model_copy(update={"claim": claimed.took, "hooks": hooks})
    return replace(outcome, timings=timings)


async def _admit(
    node: Node,
    instance: DemoInstance,
    blueprint: Blueprint,
    sandbox: Sandbox,
    started_by: StartedBy,
) -> timedelta | None:
    """Let visitors in, or leave nothing of the copy behind."""
    try:
        return await admit(node, instance, blueprint, sandbox, started_by)
    except BaseException:
        await discard(node, demo_container(instance))
        raise


async def _thaw(node: Node, instance: DemoInstance, copy: NodeCheckpoint | None) -> Outcome:
    if not node.health.criu_available:
        msg = (
            f"CRIU not available - will use cold start: {node.health.criu_message}; "
            f"`kubectl describe nodeagent {node.name}` says how to mend it"
        )
        raise ThawImpossibleError(FallbackReason.CRIU_NOT_AVAILABLE, msg)
    if copy is None or not copy.is_prepared or copy.status.archive is None:
        checkpoint = instance.spec.checkpoint_ref.name
        msg = (
            f"no verified copy of {checkpoint} lies on {node.name} (yet); "
            f"`kubectl describe checkpoint {checkpoint}` says how far it is"
        )
        raise ThawImpossibleError(FallbackReason.NO_COPY, msg)
    name = demo_container(instance)
    # One that an interrupted start left has the same name and is in the way.
    await discard(node, name)
    blueprint = copy.spec.blueprint
    try:
        thawed, unserved = await thaw(node, name, copy, copy.status.archive)
    except ArchiveError as error:
        raise ThawImpossibleError(FallbackReason.COPY_CORRUPT, str(error)) from error
    except NotReadyError as error:
        msg = (
            f"the thawed copy did not answer: {error}; "
            "if it only needs longer, raise spec.readiness.restoreTimeout of the Checkpoint"
        )
        raise ThawImpossibleError(FallbackReason.RESTORE_NOT_READY, msg) from error
    except PodmanUnreachableError:
        raise
    except (PodmanError, SandboxError, UnpackError, OSError) as error:
        raise _restore_failed(error) from error
    return Outcome(
        started_by=StartedBy.RESTORE,
        sandbox=thawed.sandbox,
        probe_port=blueprint.probe_port,
        timings=Timings(
            queue=thawed.queue,
            prepare=thawed.prepare,
            restore=thawed.restore,
            criu=thawed.criu,
            probe=thawed.probe,
            fallback=unserved.lost if unserved else None,
        ),
        restored_from=thawed.restored_from,
        unserved=unserved,
    )


async def blueprint_of(
    node: Node, instance: DemoInstance, copy: NodeCheckpoint | None
) -> Blueprint:
    """Return what the instance runs: its revision's definition or, without one, the Checkpoint's.

    Raises:
        NotFoundError: there is neither.

    """
    if copy is not None:
        return copy.spec.blueprint
    owner = instance.checkpoint_key
    checkpoint = await node.kubernetes.get(Checkpoint, owner)
    return checkpoint.spec.blueprint()
