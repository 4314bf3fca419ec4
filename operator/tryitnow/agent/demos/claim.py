"""Handing a warm sandbox to a demo: the rename of its main container is the claim."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import timedelta

from tryitnow.agent.checkpoints.reconcile import CheckpointActor
from tryitnow.agent.checkpoints.warm import SilentError, Warm, each, expect_answer
from tryitnow.agent.counters import claim_ended
from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.errors import NotReadyError
from tryitnow.agent.restore.result import Running
from tryitnow.agent.sandbox.names import ContainerName, demo_name
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.background import gather_or_cancel
from tryitnow.podman.errors import PodmanError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """What came of a look for a warm sandbox."""

    running: Running | None = None
    """The sandbox, which belongs to the demo now; None when none waits that answers in time."""

    took: timedelta | None = None
    """Time spent on sandboxes that waited, fit or not; None where none did."""


async def claim(
    tools: DemoTools, demo: DemoInstance, actor: CheckpointActor, definition: Definition
) -> Claim:
    """Hand a warm sandbox to a demo, where there is one.

    After a crash at any moment the sandbox is either free or the demo's. A demo of that name has no
    sandbox yet: what an interrupted start left is removed before.
    """
    metrics = tools.start.metrics
    began = time.monotonic()
    took: timedelta | None = None
    name = demo_name(demo)
    while (warm := actor.take_warm()) is not None:
        try:
            await _take_over(tools, definition, warm, name)
        except (PodmanError, NotReadyError, SilentError) as error:
            note = f"the warm sandbox {warm.name} was not fit and is replaced: {error}"
            logger.warning("%s: %s", demo.key, note)
            tools.kubernetes.event(demo, "WarmSandboxUnfit", note, warning=True)
            claim_ended(metrics, demo, "Unfit")
            await _remove_both(tools, warm, name)
            took = timedelta(seconds=time.monotonic() - began)
            if isinstance(error, SilentError):
                return Claim(took=took)
            continue
        except BaseException:
            await _remove_both(tools, warm, name)
            raise
        claim_ended(metrics, demo, "Claimed")
        took = timedelta(seconds=time.monotonic() - began)
        return Claim(Running(warm.sandbox, StartedBy.WARM), took)
    if actor.resource.spec.pool.warm:
        claim_ended(metrics, demo, "Empty")
    return Claim(took=took)


async def _take_over(
    tools: DemoTools, definition: Definition, warm: Warm, name: ContainerName
) -> None:
    if warm.paused:
        await each(tools.start.podman.unpause, definition, warm)
    await gather_or_cancel(
        tools.start.sandboxes.rename(warm.name, name),
        expect_answer(tools.warm, definition, warm),
    )


async def _remove_both(tools: DemoTools, warm: Warm, name: ContainerName) -> None:
    # The rename may or may not have happened.
    await tools.start.sandboxes.remove_failed(warm.sandbox.pod, warm.name, name)
