"""Making what a copy's containers live in, finding it again, and removing all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tryitnow.agent import gate
from tryitnow.agent.names import (
    PREFIX,
    ContainerName,
    PodName,
    Role,
    new_pod,
    parse,
    parse_pod,
    waits_for,
)
from tryitnow.agent.node import Node
from tryitnow.agent.pool import Pool, W
from tryitnow.agent.sandbox import Sandbox
from tryitnow.api.checkpoint import Blueprint
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.background import in_thread, to_its_end
from tryitnow.podman.client import ContainerState


@asynccontextmanager
async def opened(
    node: Node, name: ContainerName, blueprint: Blueprint, *, sealed: bool = False
) -> AsyncIterator[Sandbox]:
    """Open a sandbox for a copy that is made in the block; when that fails, nothing is left.

    No visitor gets into a pod until ``gate.open_gate``; ``sealed``, nothing moves in it at all.

    Raises:
        NoPortError: the node's range of ports is used up.
        PodmanError: the pod cannot be made.
        GateError: its gate cannot be closed.

    """
    ports = tuple(node.ports.take(str(name), blueprint.template.ports))
    pod = new_pod() if blueprint.needs_pod else None
    if pod is not None:
        # Until its main container is there, nothing else tells that somebody needs it.
        node.pods_in_work.add(str(pod))
    try:
        if pod is None:
            yield Sandbox(ports)
        else:
            await in_thread(node.volumes.make, pod.tag, blueprint.template)
            pid = await node.podman.create_pod(str(pod), ports)
            await gate.close_gate(pid, sealed=sealed)
            yield Sandbox(ports, pod, pid)
    except BaseException:
        await to_its_end(_leave_nothing(node, name, pod))
        raise
    finally:
        if pod is not None:
            node.pods_in_work.discard(str(pod))


async def _leave_nothing(node: Node, name: ContainerName, pod: PodName | None) -> None:
    await _remove_container(node, str(name))
    if pod is not None:
        await dismantle(node, pod)
    node.ports.release(str(name))


async def find(node: Node, state: ContainerState) -> Sandbox | None:
    """Return the sandbox of a main container; None when its pod is not (or no longer) whole."""
    if not state.pod:
        return Sandbox(state.ports, pid=state.pid)
    pod = await node.podman.inspect_pod(state.pod)
    name = parse_pod(pod.name) if pod else None
    if pod is None or name is None:
        return None
    return Sandbox(state.ports, name, await node.podman.pid_of(pod.infra_id))


async def is_running(node: Node, name: ContainerName) -> bool:
    """Whether a copy is there and runs, all containers of it."""
    state = await node.podman.inspect(str(name))
    if state is None or not state.running:
        return False
    return not state.pod or set(await members(node, state.pod)) == {"running"}


async def members(node: Node, pod: str) -> list[str]:
    """Return the states of a pod's containers."""
    found = await node.podman.inspect_pod(pod)
    return list(found.members.values()) if found else []


async def discard(node: Node, name: ContainerName) -> None:
    """Remove a copy with all that belongs to it; fine when there is none.

    Raises:
        PodmanError: Podman would not remove it; the ports stay taken until somebody does.

    """
    await to_its_end(_leave_nothing(node, name, None))


async def discard_waiting(node: Node, pool: Pool[W], key: Key) -> None:
    """Remove all that waits in a pool for demos of a copy, but for what is handed out meanwhile."""
    for one in pool.of(key):
        if pool.withdraw(key, one):
            await discard(node, one.name)


async def waiting(
    node: Node, role: Role, copy: NodeCheckpoint
) -> list[tuple[ContainerName, ContainerState]]:
    """Return the containers that wait in that role for demos of a copy, as Podman knows them."""
    found = [(parse(state.name), state) for state in await node.podman.list_containers(PREFIX)]
    return [(name, state) for name, state in found if name and waits_for(name, role, copy)]


async def _remove_container(node: Node, name: str) -> None:
    state = await node.podman.inspect(name)
    pod = await node.podman.inspect_pod(state.pod) if state is not None and state.pod else None
    if pod is not None and (found := parse_pod(pod.name)) is not None:
        await dismantle(node, found)
    else:
        # Also one that Podman does not know: it may be half made, and its name in the way.
        await node.podman.remove(name)


async def dismantle(node: Node, pod: PodName) -> None:
    """Remove a pod with its containers and volumes; fine when there is none."""

    async def all_of_it() -> None:
        await node.podman.remove_pod(str(pod))
        # Not before: they are mounted into its containers.
        await in_thread(node.volumes.remove, pod.tag)

    node.pods_in_work.add(str(pod))
    try:
        await to_its_end(all_of_it())
    finally:
        node.pods_in_work.discard(str(pod))
