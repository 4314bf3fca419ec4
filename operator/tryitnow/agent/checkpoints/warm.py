"""A warm sandbox: restored ahead of time, asked from time to time, handed out once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.errors import NodeShortError, NotReadyError
from tryitnow.agent.restore.fill import restore
from tryitnow.agent.restore.precreate import PreCreated
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import ContainerName
from tryitnow.agent.storage.generations import Generation
from tryitnow.api.definition import Definition
from tryitnow.api.limits import CAPACITY_FULL
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import gather_results

ANSWER_TIMEOUT_SECONDS = 8.0
"""For one answer of a warm sandbox: it has nothing left to do first, but a node that starts many
demos leaves it little time. Less than what ends a request, so that silence is no wrong answer."""


class SilentError(Exception):
    """A sandbox that was ready once does not answer.

    Nor would the next, where restores and cold starts keep the whole node busy: it is not asked.
    """


@dataclass(frozen=True)
class Warm:
    """A restored sandbox that answers and belongs to nobody yet."""

    name: ContainerName
    sandbox: Sandbox
    paused: bool
    pids: tuple[int, ...]
    """A process of each container."""


async def make_warm(
    tools: CheckpointTools,
    name: ContainerName,
    node_checkpoint: NodeCheckpoint,
    definition: Definition,
    generation: Generation,
    ready_made: Callable[[], PreCreated | None],
) -> Warm:
    """Restore a sandbox that is to wait. When that fails, nothing is left.

    Raises:
        NodeShortError: the node has no room for one more.
        Any error of ``restore``.

    """
    # It is counted itself already.
    if tools.free_capacity(node_checkpoint.metadata.namespace) < 0:
        msg = (
            f"{tools.settings.node_name} runs as many sandboxes as it may, of all namespaces "
            "(MAX_INSTANCES) or of this one (NAMESPACE_SHARE)"
        )
        raise NodeShortError(CAPACITY_FULL, msg)
    pause = node_checkpoint.spec.pool.pause
    with tools.start.memory.reserved(generation.memory_bytes(), "a warm sandbox"):
        running = await restore(
            tools.start,
            name,
            definition,
            generation,
            ready_made(),
            checkpoint=node_checkpoint.checkpoint_key,
            urgent=False,
        )
    try:
        warm = Warm(name, running.sandbox, paused=pause, pids=running.restored_pids)
        if pause:
            await each(tools.start.podman.pause, definition, warm)
    except BaseException:
        await tools.start.sandboxes.remove(name)
        raise
    return warm


async def each(
    act: Callable[[str], Coroutine[Any, Any, None]], definition: Definition, warm: Warm
) -> None:
    """Do something to each container of a warm sandbox."""
    own_names = warm.sandbox.containers(warm.name, definition)
    await gather_results(act(own) for own in own_names.values())


async def expect_answer(tools: CheckpointTools, definition: Definition, warm: Warm) -> None:
    """Ask a warm sandbox once.

    Raises:
        NotReadyError: it is not ready any more.
        SilentError: it does not answer.

    """
    # A restore in its place would have that long at most, on a node that is no less busy.
    allowed = definition.readiness.restore_timeout.total_seconds()
    timeout_seconds = min(ANSWER_TIMEOUT_SECONDS, allowed)
    try:
        async with asyncio.timeout(timeout_seconds):
            answer = await tools.start.prober.ask_inside(definition, warm.sandbox)
    except TimeoutError as error:
        msg = f"no answer within {timeout_seconds:g} s"
        raise SilentError(msg) from error
    if answer is not None:
        raise NotReadyError(answer)


async def is_fit(
    tools: CheckpointTools, node_checkpoint: NodeCheckpoint, definition: Definition, warm: Warm
) -> bool:
    """Whether a warm sandbox still runs, answers, and waits in the right way."""
    if warm.paused is not node_checkpoint.spec.pool.pause:
        return False
    pod = await tools.start.sandboxes.state_of(warm.sandbox)
    wanted = "paused" if warm.paused else "running"
    if pod is None or not pod.infra_running or set(pod.members.values()) != {wanted}:
        return False
    volumes, tag = tools.start.volumes, warm.sandbox.pod.tag
    if not all(volumes.path(tag, each.name).is_dir() for each in definition.template.volumes):
        return False  # half of it was removed, while Podman's storage was away
    if warm.paused:
        return True  # it was asked before it was paused
    try:
        await expect_answer(tools, definition, warm)
    except (NotReadyError, SilentError):
        return False
    return True
