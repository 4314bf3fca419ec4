"""Giving a copy to its demo: a name of its own, its hooks, and only then its visitors."""

from __future__ import annotations

import logging
from datetime import timedelta

from tryitnow.agent import gate
from tryitnow.agent.hooks import instance_environment, run_hooks, start_environment
from tryitnow.agent.inside import published
from tryitnow.agent.names import demo_container
from tryitnow.agent.namespaces import set_host_name, write_host_files
from tryitnow.agent.node import Node
from tryitnow.agent.probe import wait_ready
from tryitnow.agent.sandbox import Sandbox
from tryitnow.agent.sandboxes import is_running
from tryitnow.api.checkpoint import Blueprint
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.background import all_together, in_thread

logger = logging.getLogger(__name__)


async def admit(
    node: Node,
    instance: DemoInstance,
    blueprint: Blueprint,
    sandbox: Sandbox,
    started_by: StartedBy,
) -> timedelta | None:
    """Make a running copy the demo's own, and let visitors in; returns what the hooks took.

    Raises:
        HookError: a hook failed.
        GateError: the gate cannot be opened.
        NotReadyError: it does not answer any more.

    """
    name = demo_container(instance)
    await _name_host(node, instance, blueprint, sandbox)
    if sandbox.pod is None:
        return None
    took: timedelta | None = None
    if blueprint.hooks.after_restore:
        env = instance_environment(node, instance, blueprint, sandbox)
        env |= start_environment(started_by)
        hooks = blueprint.hooks.after_restore
        took = await run_hooks(node, "afterRestore", hooks, name, blueprint, sandbox, env)
    await gate.open_gate(sandbox.pid)
    await wait_ready(
        node.http,
        published(node, blueprint, sandbox),
        blueprint.readiness.restore_timeout,
        lambda: is_running(node, name),
    )
    return took


async def _name_host(
    node: Node, instance: DemoInstance, blueprint: Blueprint, sandbox: Sandbox
) -> None:
    """Let the copy believe to be on a host of the demo's name, not the template's."""
    called = sandbox.containers(demo_container(instance), blueprint)
    if sandbox.pod is None and sandbox.pid:
        pids = [sandbox.pid]
    else:
        pids = await all_together(node.podman.pid_of(own) for own in called.values())
    await in_thread(_write_name, instance, pids)


def _write_name(instance: DemoInstance, pids: list[int]) -> None:
    name = instance.metadata.name
    try:
        set_host_name(pids[0], name)  # one for all containers of a pod
    except OSError as error:
        # It has ended, which its probe will tell, or it shares the node's host name.
        logger.warning("%s: keeps the host name that was frozen: %s", instance.key, error)
        return
    for pid in pids:
        try:
            write_host_files(pid, name)
        except OSError as error:
            # An image may have none, or links: the kernel's name is what counts.
            logger.debug("%s: /etc/hostname of process %d stays: %s", instance.key, pid, error)
