"""Restoring: CRIU fills a pre-created sandbox with the processes of the checkpoint."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import timedelta

from tryitnow.agent.counters import restore_ended
from tryitnow.agent.errors import CgroupError, SandboxLostError
from tryitnow.agent.restore.precreate import PreCreated, precreate
from tryitnow.agent.restore.result import Running
from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.sandbox.cgroup import gather
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import ContainerName
from tryitnow.agent.storage.generations import Generation
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import StartedBy, Timings
from tryitnow.api.meta import Key
from tryitnow.background import gather_or_cancel, gather_results, in_thread
from tryitnow.podman.client import ContainerState, PortMapping
from tryitnow.podman.errors import (
    NameTakenError,
    NodeLimitError,
    PodmanError,
    PodmanUnreachableError,
)

logger = logging.getLogger(__name__)


async def restore(
    tools: StartTools,
    name: ContainerName,
    definition: Definition,
    generation: Generation,
    ready_made: PreCreated | None,
    *,
    checkpoint: Key,
    urgent: bool = True,
    ports: Iterable[PortMapping] = (),
) -> Running:
    """Restore an application and wait until it answers inside.

    When it does not, nothing is left behind, and ``ready_made`` is gone as well.

    Args:
        tools: The node's tools.
        name: Name of the sandbox.
        definition: What is restored.
        generation: The unpacked archive.
        ready_made: A pre-created sandbox to use. By default one is made.
        checkpoint: The Checkpoint that it belongs to, for the metrics.
        urgent: Whether it goes before all that is done ahead of time.
        ports: Ports that a sandbox that is made here is to have; by default free ones.

    Raises:
        NameTakenError: there is a sandbox of that name already; it is left alone.
        NodeShortError, NodeLimitError: a limit of the node is reached.
        PodmanError: the restore failed; a CRIUError has the cause from CRIU's log.
        NotReadyError: it was restored and did not answer in ``restoreTimeout``.
        SandboxLostError: its sandbox ended meanwhile.
        SourceError, FirewallError, VolumeError, OSError: its sandbox cannot be made.

    """

    async def into(sandbox: PreCreated | None) -> Running:
        return await _restore_into(
            tools, name, definition, generation, sandbox, checkpoint, ports, urgent=urgent
        )

    if ready_made is not None:
        try:
            return await into(ready_made)
        except SandboxLostError as error:
            # It ended while it waited: the next one is made now.
            logger.warning("%s: %s had ended: %s", name, ready_made.name, error)
    return await into(None)


async def _restore_into(
    tools: StartTools,
    name: ContainerName,
    definition: Definition,
    generation: Generation,
    ready_made: PreCreated | None,
    checkpoint: Key,
    ports: Iterable[PortMapping],
    *,
    urgent: bool,
) -> Running:
    asked = time.monotonic()
    sandbox = ready_made.sandbox if ready_made is not None else None
    with ExitStack() as held:
        # Also until what failed is removed: CRIU may still read.
        if ready_made is not None:
            held.callback(ready_made.generation.release)
        held.enter_context(generation.leased())
        try:
            async with tools.turns.turn(name.owner.namespace, urgent=urgent):
                began = time.monotonic()
                sandbox = await _sandbox_for(tools, name, definition, generation, ready_made, ports)
                prepared = time.monotonic()
                criu = await _fill(tools, name, definition, sandbox)
                states = await _states(tools, name, definition, sandbox)
                await _carry_hosts(tools, generation, states)
                filled = time.monotonic()
            probe, _ = await gather_or_cancel(
                _wait_ready(tools, name, definition, sandbox),
                gather_results(_gather(state) for state in states.values()),
            )
        except BaseException as error:
            lost = sandbox is not None and await _is_lost(tools, sandbox, error)
            if not lost:
                restore_ended(tools.metrics, checkpoint, name, error)
            if sandbox is not None:
                # The rename may or may not have happened.
                had = (name,) if ready_made is None else (name, ready_made.name)
                await tools.sandboxes.remove_failed(sandbox.pod, *had)
            if lost:
                raise SandboxLostError(str(error)) from error
            raise
    restore_ended(tools.metrics, checkpoint, name, timedelta(seconds=time.monotonic() - asked))
    timings = Timings(
        queue=timedelta(seconds=began - asked),
        prepare=timedelta(seconds=prepared - began),
        restore=timedelta(seconds=filled - prepared),
        criu=criu,
        probe=probe,
    )
    pids = tuple(state.pid for state in states.values())
    return Running(sandbox, StartedBy.RESTORE, timings, pids)


async def _is_lost(tools: StartTools, sandbox: Sandbox, error: BaseException) -> bool:
    """Whether a restore failed because its sandbox had ended, or was removed by somebody."""
    if not isinstance(error, PodmanError) or isinstance(error, (NameTakenError, NodeLimitError)):
        return False
    try:
        state = await tools.sandboxes.state_of(sandbox)
    except (PodmanError, PodmanUnreachableError):
        return False
    return state is None or not state.infra_running


async def _sandbox_for(
    tools: StartTools,
    name: ContainerName,
    definition: Definition,
    generation: Generation,
    ready_made: PreCreated | None,
    ports: Iterable[PortMapping],
) -> Sandbox:
    if ready_made is not None:
        await tools.sandboxes.rename(ready_made.name, name)
        return ready_made.sandbox
    made = await precreate(tools, name, definition, generation, ports=ports)
    made.generation.release()  # the caller holds a lease of its own
    return made.sandbox


async def _fill(
    tools: StartTools, name: ContainerName, definition: Definition, sandbox: Sandbox
) -> timedelta:
    """Read the pages into all containers at once; return what CRIU took of the longest."""
    async with tools.sandboxes.in_work(name):
        took = await gather_results(
            tools.podman.restore(own, definition.criu_options)
            for own in sandbox.containers(name, definition).values()
        )
    return max(took)


async def _states(
    tools: StartTools, name: ContainerName, definition: Definition, sandbox: Sandbox
) -> dict[str, ContainerState]:
    """Ask once how each container is.

    Raises:
        PodmanError: one is gone.

    """
    own_names = sandbox.containers(name, definition)
    found = await gather_results(tools.podman.inspect(own) for own in own_names.values())
    states = {}
    for container, state in zip(own_names, found, strict=True):
        if state is None:
            msg = f"container {container} is gone; somebody removed it"
            raise PodmanError(msg)
        states[container] = state
    return states


async def _carry_hosts(
    tools: StartTools, generation: Generation, states: Mapping[str, ContainerState]
) -> None:
    for container, state in states.items():
        hosts = await asyncio.to_thread(generation.hosts_of, container)
        await tools.containers.carry_hosts(state.name, state.pid, hosts)


async def _wait_ready(
    tools: StartTools, name: ContainerName, definition: Definition, sandbox: Sandbox
) -> timedelta:
    if definition.blocks_tcp:
        # All of them are there now, and may speak to each other.
        await tools.sandboxes.firewall.close(sandbox.pid)
    return await tools.prober.wait_inside(
        definition,
        sandbox,
        definition.readiness.restore_timeout,
        lambda: tools.sandboxes.is_running(name),
    )


async def _gather(state: ContainerState) -> None:
    """Bring all processes of a container to where its limits and a pause reach them."""
    if not state.running:
        return
    try:
        moved = await in_thread(gather, state.id, state.pid)
    except CgroupError as error:
        logger.warning("%s: its limits and a pause may miss processes: %s", state.name, error)
    else:
        logger.debug("%s: %d processes brought into its cgroup", state.name, moved)
