"""Starting the containers of a template in their order, as a Pod does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import aiohttp

from tryitnow.agent.inside import LOOPBACK, inside_session
from tryitnow.agent.names import ContainerName
from tryitnow.agent.node import Node
from tryitnow.agent.probe import ContainerDiedError, NotReadyError, wait_until
from tryitnow.agent.sandbox import Sandbox
from tryitnow.agent.sources import Redacted, Sources
from tryitnow.api.checkpoint import Blueprint
from tryitnow.api.template import Container, InitContainer, StartupProbe
from tryitnow.background import all_together
from tryitnow.podman.client import NewContainer
from tryitnow.podman.errors import (
    ExecTimeoutError,
    PodmanCallError,
    PodmanError,
    PodmanUnreachableError,
)

_SHOWN = 300
"""Characters of a command's output that a message shows, from its end."""

_COMMAND_SECONDS = timedelta(seconds=10)
"""For one try of a startup probe's command, as for one answer of readiness."""


async def start_all(
    node: Node,
    name: ContainerName,
    blueprint: Blueprint,
    sandbox: Sandbox,
    images: dict[str, str],
    sources: Sources,
) -> None:
    """Start init containers one after the other, then all others at once.

    Raises:
        PodmanError: one cannot be started.
        NotReadyError: one did not start, or not end, in its time.
        VolumeError: a volume cannot be mounted.

    """
    called = sandbox.containers(name, blueprint)
    fields = {container.name: field for field, container in blueprint.template.by_field()}

    async def begin(container: Container) -> str:
        own = called.get(container.name)
        if own is None and sandbox.pod is not None:
            own = sandbox.pod.member(container.name)  # an init container
        new = await new_container(
            node, blueprint, sandbox, container, images[container.name], sources
        )
        try:
            await node.podman.create_and_start(str(own), new)
        except PodmanUnreachableError:
            raise
        except PodmanError as error:
            msg = f"{fields[container.name]}: the container does not start: {error}"
            raise PodmanError(msg) from error
        return str(own)

    for container in blueprint.template.init_containers:
        own = await begin(container)
        if container.is_sidecar:
            await _wait_started(node, sandbox, container, own, sources.redacted)
        else:
            await _wait_ended(node, container, own, blueprint.readiness.timeout)
            await node.podman.remove(own)

    async def begin_and_wait(container: Container) -> None:
        own = await begin(container)
        await _wait_started(node, sandbox, container, own, sources.redacted)

    await all_together(begin_and_wait(container) for container in blueprint.template.containers)


async def new_container(
    node: Node,
    blueprint: Blueprint,
    sandbox: Sandbox,
    container: Container,
    image: str,
    sources: Sources,
) -> NewContainer:
    """Return what a container of a copy is made of.

    Raises:
        VolumeError: a volume cannot be mounted.

    """
    template, pod = blueprint.template, sandbox.pod
    env = sources.env.get(container.name, {})
    limits = node.health.enforceable(container.resources.limits)
    if pod is None:
        return NewContainer(container, image, env, ports=sandbox.ports, limits=limits)
    mounts = await asyncio.to_thread(node.volumes.mounts, pod.tag, template, container)
    return NewContainer(container, image, env, pod=str(pod), mounts=mounts, limits=limits)


async def _wait_started(
    node: Node, sandbox: Sandbox, container: Container, own: str, redacted: Redacted
) -> None:
    probe = container.startup_probe
    if probe is None:
        return

    async def runs() -> bool:
        state = await node.podman.inspect(own)
        return state is not None and state.running

    # A container without a pod has a network of its own.
    pid = sandbox.pid or await node.podman.pid_of(own)
    async with inside_session(pid) as session:
        look = _look(node, own, probe, session, redacted)
        try:
            await wait_until(look, probe.timeout, runs)
        except NotReadyError as error:
            words = await last_words(node, own, container.name)
            msg = f"containers[{container.name}].startupProbe: {error}{words}"
            raise type(error)(msg) from error


def _look(
    node: Node, own: str, probe: StartupProbe, session: aiohttp.ClientSession, redacted: Redacted
) -> Callable[[], Awaitable[str | None]]:
    if probe.exec is not None:
        command = probe.exec.command
        return lambda: _look_by_command(node, own, command, redacted)
    if probe.http_get is not None:
        url = f"http://{LOOPBACK}:{probe.http_get.port}{probe.http_get.path}"
        return lambda: _look_by_request(session, url)
    assert probe.tcp_socket is not None, "a rule of the schema"
    port = probe.tcp_socket.port
    return lambda: _look_by_connection(session, port)


async def _look_by_command(
    node: Node, own: str, command: tuple[str, ...], redacted: Redacted
) -> str | None:
    try:
        done = await node.podman.execute(own, command, {}, _COMMAND_SECONDS)
    except PodmanUnreachableError:
        raise
    except ExecTimeoutError as error:
        return f"the command hangs: {error}"
    except PodmanError as error:
        return f"the command cannot be run: {error}"
    if done.exit_code == 0:
        return None
    # In this order: what is left of a secret that was cut could not be told any more.
    return f"exit status {done.exit_code}: {redacted.text(done.output)[-_SHOWN:]}"


async def _look_by_request(session: aiohttp.ClientSession, url: str) -> str | None:
    try:
        async with session.get(url, allow_redirects=False) as answer:
            return None if 200 <= answer.status < 400 else f"{url} answered {answer.status}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return f"{url} does not answer: {type(error).__name__} {error}".strip()


async def _look_by_connection(session: aiohttp.ClientSession, port: int) -> str | None:
    try:
        async with session.get(f"http://{LOOPBACK}:{port}/"):
            return None
    except aiohttp.ClientConnectorError as error:
        return f"port {port} accepts no connection: {error}"
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None  # it accepted one, and speaks another language


async def _wait_ended(node: Node, container: InitContainer, own: str, deadline: timedelta) -> None:
    code: int | None = None

    async def look() -> str | None:
        nonlocal code
        state = await node.podman.inspect(own)
        if state is None:
            return "it is gone"
        code = None if state.alive else state.exit_code
        return "it still runs" if state.alive else None

    async def alive() -> bool:
        return True  # its end is what is waited for

    where = f"initContainers[{container.name}]"
    try:
        await wait_until(look, deadline, alive)
    except NotReadyError as error:
        msg = f"{where} did not end: {error}; a sidecar needs restartPolicy: Always"
        raise NotReadyError(msg) from error
    if code != 0:
        words = await last_words(node, own, container.name)
        msg = f"{where} ended with exit code {code}{words}"
        raise ContainerDiedError(msg)


async def last_words(node: Node, own: str, container: str) -> str:
    """Return what a container last wrote, as a part of a message."""
    try:
        lines = await node.podman.log_tail(own)
    except PodmanCallError:
        return ""  # what else is known must do
    return f"\nThe last lines of container {container}:\n{lines}" if lines else ""
