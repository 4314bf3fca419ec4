"""Giving a running sandbox to its demo: a host name of its own, its hooks, and then clients."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta

from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.errors import NotReadyError
from tryitnow.agent.restore.result import Running
from tryitnow.agent.sandbox.hooks import demo_environment, start_environment
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.background import gather_or_cancel

logger = logging.getLogger(__name__)


async def personalize(
    tools: DemoTools,
    demo: DemoInstance,
    definition: Definition,
    running: Running,
    deadline: timedelta,
) -> timedelta | None:
    """Make a running sandbox the demo's own, and let clients in; return how long the hooks took.

    Args:
        tools: The node's tools.
        demo: The demo.
        definition: What runs.
        running: The sandbox, closed.
        deadline: How long clients may wait for their first answer.

    Raises:
        HookError: a hook failed; the firewall stays closed.
        FirewallError: the firewall cannot be opened.
        NotReadyError: clients get no answer.
        PodmanError: a container is gone.

    """
    name, sandbox = demo_name(demo), running.sandbox
    took: timedelta | None = None
    if definition.hooks.after_restore:
        await name_host(tools, demo, sandbox, running.restored_pids)
        env = demo_environment(tools.settings, demo, definition, sandbox)
        env |= start_environment(running.started_by)
        took = await tools.start.hooks.run(
            "afterRestore", definition.hooks.after_restore, name, definition, sandbox, env
        )
        await _reach(tools, demo, definition, sandbox, deadline)
    else:
        # Nothing in the sandbox waits for its name.
        await gather_or_cancel(
            name_host(tools, demo, sandbox, running.restored_pids),
            _reach(tools, demo, definition, sandbox, deadline),
        )
    return took


async def name_host(
    tools: DemoTools, demo: DemoInstance, sandbox: Sandbox, pids: Iterable[int]
) -> None:
    """Give the host that the containers see the demo's name."""
    try:
        await tools.start.containers.name_host(sandbox, pids, demo.metadata.name)
    except OSError as error:
        # Its containers have ended, which the probe tells.
        logger.warning("%s: its host keeps the name of the checkpoint: %s", demo.key, error)


async def let_in(tools: DemoTools, sandbox: Sandbox) -> None:
    """Open the firewall for clients.

    Raises:
        FirewallError: it cannot be opened.

    """
    ports = (port.container_port for port in sandbox.ports)
    await tools.start.sandboxes.firewall.open(sandbox.pid, ports)


async def _reach(
    tools: DemoTools,
    demo: DemoInstance,
    definition: Definition,
    sandbox: Sandbox,
    deadline: timedelta,
) -> None:
    """Let clients in, and wait until they are answered."""
    name = demo_name(demo)
    await let_in(tools, sandbox)
    try:
        await tools.start.prober.wait_published(
            definition, sandbox, deadline, lambda: tools.start.sandboxes.is_running(name)
        )
    except NotReadyError:
        if await tools.start.prober.ask_inside(definition, sandbox) is None:
            # It answers inside: the way to it is broken.
            await tools.network.repair()
        raise
