"""Waiting for an application that was started: cold, or again with its files."""

from __future__ import annotations

from datetime import timedelta

from tryitnow.agent.errors import NotReadyError
from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.names import ContainerName
from tryitnow.api.definition import Definition


async def wait_started(
    tools: StartTools, name: ContainerName, definition: Definition, sandbox: Sandbox
) -> timedelta:
    """Wait until an application answers inside; return how long it took.

    Raises:
        NotReadyError: it did not in ``readiness.timeout``; ends with what it last wrote.
        ContainerDiedError: a container ended before that.

    """
    try:
        return await tools.prober.wait_inside(
            definition,
            sandbox,
            definition.readiness.timeout,
            lambda: tools.sandboxes.is_running(name),
        )
    except NotReadyError as error:
        words = await tools.containers.silent_words(name, definition, sandbox)
        raise type(error)(f"{error}{words}") from error
