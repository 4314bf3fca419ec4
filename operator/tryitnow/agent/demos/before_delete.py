"""The last thing that is done in a demo: its beforeDelete hooks."""

from __future__ import annotations

import logging
from datetime import timedelta

from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.errors import HookError
from tryitnow.agent.revisions import RevisionError
from tryitnow.agent.sandbox.hooks import demo_environment
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import find_condition
from tryitnow.kubernetes.errors import NotFoundError
from tryitnow.podman.errors import PodmanError

logger = logging.getLogger(__name__)

TRIES = 3
"""Deleting always ends: what a hook could not drop in this many tries is left to people."""


async def run_before_delete(tools: DemoTools, demo: DemoInstance) -> timedelta | None:
    """Run a demo's beforeDelete hooks; return when to try again, None when it may be removed.

    Raises:
        PodmanUnreachableError: Podman is away; try again when it is back.
        KubernetesError: the API server does not answer, and the definition is not known.

    """
    tries = f"{demo.metadata.uid}/delete"
    if wait := tools.crashes.remaining(tries):
        return wait
    try:
        skipped = await _run(tools, demo)
    except (HookError, PodmanError, OSError) as error:
        failures = tools.crashes.failed(tries)
        if failures < TRIES:
            logger.warning("%s: %s; trying again", demo.key, error)
            return tools.crashes.remaining(tries)
        note = f"{error}\nRemoved all the same after {failures} tries: what it has outside is left."
        tools.kubernetes.event(demo, "BeforeDeleteFailed", note, warning=True)
        logger.error("%s: %s", demo.key, note)
    else:
        if skipped is not None:
            note = f"its beforeDelete hooks did not run: {skipped}; what it has outside is left"
            tools.kubernetes.event(demo, "BeforeDeleteSkipped", note, warning=True)
            logger.warning("%s: %s", demo.key, note)
    tools.crashes.forget(tries)
    return None


async def _run(tools: DemoTools, demo: DemoInstance) -> str | None:
    """Run the hooks; return why they could not run, None when they did or there are none."""
    name = demo_name(demo)
    ready = find_condition(demo.status.conditions, "Ready")
    # A hook that failed may have made half of what it has outside.
    has_run_hooks = demo.was_ready or (ready is not None and ready.reason == "HookFailed")
    if not has_run_hooks or demo.revision_key is None:
        return None  # it has never had anything outside
    definition = await _definition_of(tools, demo)
    if definition is None:
        return "the CheckpointRevision in which they stand is gone"
    hooks = definition.hooks.before_delete
    if not hooks:
        return None
    sandbox = await tools.start.sandboxes.find(name)
    if sandbox is None or not await tools.start.sandboxes.is_running(name):
        return "its containers do not run"
    env = demo_environment(tools.settings, demo, definition, sandbox)
    await tools.start.hooks.run("beforeDelete", hooks, name, definition, sandbox, env)
    return None


async def _definition_of(tools: DemoTools, demo: DemoInstance) -> Definition | None:
    assert demo.revision_key is not None
    try:
        return (await tools.revisions.get(demo.revision_key)).definition
    except (NotFoundError, RevisionError):
        return None
