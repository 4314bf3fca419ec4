"""The test restore: each node restores a revision once, by the way that demos use."""

from __future__ import annotations

from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.checkpoints.workplace import workplace
from tryitnow.agent.restore.fill import restore
from tryitnow.agent.sandbox.names import Role, work_name
from tryitnow.agent.storage.generations import Generation
from tryitnow.api.archive import Versions
from tryitnow.api.definition import Definition
from tryitnow.api.nodecheckpoint import NodeCheckpoint


async def verify(
    tools: CheckpointTools,
    node_checkpoint: NodeCheckpoint,
    definition: Definition,
    generation: Generation,
) -> Versions:
    """Restore a generation, ask the application whether it is ready, and remove it.

    Returns the software that it was tested with.

    Raises:
        Any error of ``restore``.

    """
    name = work_name(Role.VERIFY, node_checkpoint)
    versions = tools.start.health.current.versions
    async with workplace(tools.start.sandboxes, name):
        with tools.start.memory.reserved(generation.memory_bytes(), "the test restore"):
            await restore(
                tools.start,
                name,
                definition,
                generation,
                None,
                checkpoint=node_checkpoint.checkpoint_key,
                urgent=False,
            )
    return versions
