"""Starting a sandbox again whose containers ended: with its files, behind its closed firewall."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from tryitnow.agent.errors import NotReadyError
from tryitnow.agent.restore.ready import wait_started
from tryitnow.agent.restore.result import Running
from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import ContainerName
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import StartedBy, Timings
from tryitnow.api.limits import PORT_TAKEN
from tryitnow.background import in_thread
from tryitnow.podman.errors import NodeLimitError


async def restart(
    tools: StartTools, name: ContainerName, definition: Definition, sandbox: Sandbox, host: str
) -> Running:
    """Start the ended containers of a sandbox, and wait until the application answers inside.

    Nothing is ever removed here, whatever fails: the caller tries again.

    Args:
        tools: The node's tools.
        name: Name of the sandbox.
        definition: What runs in it.
        sandbox: The sandbox; its pod may have ended, as after a reboot of the node.
        host: Name of the host that the containers see.

    Raises:
        NodeShortError, NodeLimitError: a limit of the node is reached, such as its port being
            taken.
        PodmanError: Podman could not start it.
        NotReadyError: it did not answer in ``readiness.timeout``. It goes on starting; the message
            ends with what it last wrote.
        SandboxError, OSError: its network or its volumes cannot be set up.

    """
    asked = time.monotonic()
    async with tools.restarts.turn(name.owner.namespace):
        began = time.monotonic()
        pid = await _start_infra(tools, sandbox)
        sandbox = Sandbox(sandbox.pod, sandbox.ports, pid)
        await tools.sandboxes.guard(name, sandbox, definition.network)
        await tools.sandboxes.firewall.close(pid)
        await in_thread(tools.volumes.mount_memory, sandbox.pod.tag, definition.template)
        secrets = await tools.containers.secrets_of(name, definition, sandbox)
        try:
            await tools.containers.start_again(name, definition, sandbox, host, secrets)
            started = time.monotonic()
            probe = await wait_started(tools, name, definition, sandbox)
        except NotReadyError as error:
            raise type(error)(secrets.text(str(error))) from None
    timings = Timings(
        queue=timedelta(seconds=began - asked),
        restart=timedelta(seconds=started - began),
        probe=probe,
    )
    return Running(sandbox, StartedBy.RESTART, timings)


async def _start_infra(tools: StartTools, sandbox: Sandbox) -> int:
    name = str(sandbox.pod)
    try:
        return await tools.podman.start_pod_infra(name)
    except NodeLimitError as error:
        pod = await tools.podman.inspect_pod(name)
        if error.limit != PORT_TAKEN or pod is None or pod.infra_running:
            raise
        # What holds the port may be what a killed Podman left of this very start.
        for conmon in await asyncio.to_thread(tools.conmons.find):
            if conmon.container_id == pod.infra_id:
                await in_thread(tools.conmons.end, conmon)
        return await tools.podman.start_pod_infra(name)
