"""``tryitnow confirm-storage``: say that a node's storage and cluster are as they should be."""

from __future__ import annotations

import asyncio

import click

from tryitnow.api.meta import Key
from tryitnow.api.nodeagent import CONFIRM_STORAGE_ANNOTATION, STORAGE_CHANGED, NodeAgent
from tryitnow.cli.failures import STATUSES, translate_errors
from tryitnow.cli.names import complete_node, some_name
from tryitnow.cli.output import emit
from tryitnow.kubernetes.access import find_access
from tryitnow.kubernetes.client import connect


@click.command(epilog=STATUSES)
@click.argument("node", metavar="NODE", callback=some_name, shell_complete=complete_node)
@click.option("-y", "--yes", is_flag=True, help="Do not ask: data may be lost.")
@click.option("--context", help="Context of the kubeconfig; by default its current one.")
def confirm_storage(*, node: str, yes: bool, context: str | None) -> None:
    """Confirm the storage and the cluster of NODE after one of them changed.

    An agent removes nothing, and starts no demo again, when its storage or its cluster has changed.
    This command confirms both as they are: demos without their files are started afresh, and their
    data is lost. First check that all file systems are mounted.
    """
    with translate_errors():
        result = asyncio.run(_confirm(node, context, asks=not yes))
    emit(result)


async def _confirm(node: str, context: str | None, *, asks: bool) -> str:
    access = await find_access(context)
    async with connect("cli", access=access) as kubernetes:
        agent = await kubernetes.get(NodeAgent, Key("", node))
        changed = next((c for c in agent.status.conditions if c.type == STORAGE_CHANGED), None)
        if changed is None or changed.status != "True":
            return f"the storage of node {node} has not changed: there is nothing to confirm"
        emit(changed.message, err=True)
        if asks:
            click.confirm("Confirm it as it is?", abort=True, err=True)
        annotation = {CONFIRM_STORAGE_ANNOTATION: agent.status.storage.id}
        await kubernetes.patch(agent, {"metadata": {"annotations": annotation}})
        return f"confirmed; the agent of node {node} goes on within a minute"
