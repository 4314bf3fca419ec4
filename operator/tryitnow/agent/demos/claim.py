"""Handing a warm sandbox to a demo: the rename of its main container is the claim.

What does not need the name is done meanwhile: a client waits for nothing but this.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import timedelta

import aiohttp

from tryitnow.agent.checkpoints.reconcile import CheckpointActor
from tryitnow.agent.checkpoints.warm import SilentError, Warm, each, expect_answer
from tryitnow.agent.counters import claim_ended
from tryitnow.agent.demos.personalize import let_in, name_host
from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.errors import FirewallError, NotReadyError
from tryitnow.agent.restore.result import Running
from tryitnow.agent.sandbox.names import ContainerName, demo_name
from tryitnow.agent.sandbox.probe import ask
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.background import gather_or_cancel
from tryitnow.podman.errors import PodmanError

logger = logging.getLogger(__name__)

_WAY_IN = aiohttp.ClientTimeout(total=2)
"""For the first answer through the published port, which takes 10 ms. Where none comes, a question
from inside tells whose fault it is."""


@dataclass(frozen=True)
class Claim:
    """What came of a look for a warm sandbox."""

    running: Running | None = None
    """The sandbox, which belongs to the demo now; None when none waits that answers in time."""

    took: timedelta | None = None
    """Time spent on sandboxes that waited, fit or not; None where none did."""

    is_personal: bool = False
    """Whether it has the demo's host name and has answered a client's request already."""


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
            is_personal = await _take_over(tools, demo, definition, warm, name)
        except (PodmanError, FirewallError, NotReadyError, SilentError) as error:
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
        running = Running(warm.sandbox, StartedBy.WARM, restored_pids=warm.pids)
        return Claim(running, took, is_personal)
    if actor.resource.spec.pool.warm:
        claim_ended(metrics, demo, "Empty")
    return Claim(took=took)


async def _take_over(
    tools: DemoTools,
    demo: DemoInstance,
    definition: Definition,
    warm: Warm,
    name: ContainerName,
) -> bool:
    """Make a warm sandbox the demo's; return whether clients are let in and answered already."""
    if warm.paused:
        await each(tools.start.podman.unpause, definition, warm)
    if definition.hooks.after_restore:
        # They come before any client.
        await gather_or_cancel(
            tools.start.sandboxes.rename(warm.name, name),
            expect_answer(tools.warm, definition, warm),
        )
        return False

    _, (_, is_reached) = await gather_or_cancel(
        tools.start.sandboxes.rename(warm.name, name),
        gather_or_cancel(
            name_host(tools, demo, warm.sandbox, warm.pids),
            _open(tools, definition, warm),
        ),
    )
    return is_reached


async def _open(tools: DemoTools, definition: Definition, warm: Warm) -> bool:
    """Let clients in, and ask as they do; return whether they are answered.

    Raises:
        FirewallError: the firewall cannot be opened.
        NotReadyError, SilentError: it does not answer inside either.

    """
    await let_in(tools, warm.sandbox)
    prober = tools.start.prober
    if await ask(prober.http, prober.published(definition, warm.sandbox), _WAY_IN) is None:
        return True
    await expect_answer(tools.warm, definition, warm)
    return False


async def _remove_both(tools: DemoTools, warm: Warm, name: ContainerName) -> None:
    # The rename may or may not have happened.
    await tools.start.sandboxes.remove_failed(warm.sandbox.pod, warm.name, name)
