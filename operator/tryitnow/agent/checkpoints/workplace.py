"""The one sandbox that a revision has for a kind of work: a build, or a test restore."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tryitnow.agent.sandbox.lifecycle import Sandboxes
from tryitnow.agent.sandbox.names import ContainerName
from tryitnow.podman.errors import PodmanCallError

logger = logging.getLogger(__name__)


@asynccontextmanager
async def workplace(sandboxes: Sandboxes, name: ContainerName) -> AsyncIterator[None]:
    """Have the name free for the block, and what the block made of that name removed afterwards.

    A removal that fails does not undo what the work has achieved, and does not hide why it failed:
    the next work of that name begins with it.

    Raises:
        PodmanError, PodmanUnreachableError: what an earlier block left cannot be removed.

    """
    await sandboxes.remove(name)
    try:
        yield
    finally:
        try:
            await sandboxes.remove(name)
        except (PodmanCallError, OSError) as error:
            logger.warning("%s is left until the next work of its name: %s", name, error)
