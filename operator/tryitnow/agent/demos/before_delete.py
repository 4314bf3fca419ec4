"""The last thing that is done in a demo: its beforeDelete hooks."""

from __future__ import annotations

import logging
from datetime import timedelta

from tryitnow.agent.hooks import HookError, instance_environment, run_hooks
from tryitnow.agent.names import demo_container
from tryitnow.agent.node import Node
from tryitnow.agent.sandboxes import find
from tryitnow.agent.start import blueprint_of, find_copy
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.kubernetes.errors import NotFoundError
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError

logger = logging.getLogger(__name__)

TRIES = 3
"""Deleting always ends: what a hook could not drop in this many tries is left to people."""


async def run_before_delete(node: Node, instance: DemoInstance) -> timedelta | None:
    """Run a demo's beforeDelete hooks; returns when to try again, None when it may be removed.

    Raises:
        PodmanUnreachableError: Podman is away; try again when it is back.

    """
    tries = f"{instance.metadata.uid}/delete"
    if wait := node.backoff.remaining(tries):
        return wait
    try:
        await _run(node, instance)
    except PodmanUnreachableError:
        raise
    except (HookError, PodmanError) as error:
        failures = node.backoff.failed(tries)
        if failures < TRIES:
            logger.warning("%s: %s; trying again", instance.key, error)
            return node.backoff.remaining(tries)
        note = f"{error}\nRemoved all the same after {failures} tries: what it has outside is left."
        node.kubernetes.event(instance, "BeforeDeleteFailed", note, warning=True)
        logger.error("%s: %s", instance.key, note)
    node.backoff.forget(tries)
    return None


async def _run(node: Node, instance: DemoInstance) -> None:
    name = demo_container(instance)
    state = await node.podman.inspect(str(name))
    if state is None:
        return
    try:
        blueprint = await blueprint_of(node, instance, find_copy(node, instance))
    except NotFoundError:
        return  # the Checkpoint and its hooks are gone
    hooks = blueprint.hooks.before_delete
    sandbox = await find(node, state)
    if not hooks or sandbox is None or not state.running:
        return
    env = instance_environment(node, instance, blueprint, sandbox)
    await run_hooks(node, "beforeDelete", hooks, name, blueprint, sandbox, env)
