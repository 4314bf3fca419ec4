"""``tryitnow check-installation``, which `helm test` runs: who leads, and which nodes serve.

Everything is read from the API, so it can run anywhere; `tryitnow doctor` looks at one node itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime

import click

from tryitnow.api.meta import Key, now
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.cli.failures import translate_errors
from tryitnow.cli.output import emit
from tryitnow.kubernetes.client import KubernetesApi, connect
from tryitnow.kubernetes.errors import NotFoundError
from tryitnow.kubernetes.lease import CONTROLLER_LEASE, Lease
from tryitnow.settings import controller_settings


@click.command
def check_installation() -> None:
    """Check that a controller leads and a node can run demos.

    Asks the API server only. Exit status: 0 all is well, 1 it is not.
    """
    with translate_errors():
        problems = asyncio.run(_check(controller_settings().namespace))
    for problem in problems:
        emit(f"problem: {problem}")
    sys.exit(1 if problems else 0)


async def _check(namespace: str) -> list[str]:
    async with connect("check") as kubernetes:
        lease = await _lease(kubernetes, Key(namespace, CONTROLLER_LEASE))
        agents = (await kubernetes.list_all(NodeAgent)).items
    return assess(lease, agents, now())


async def _lease(kubernetes: KubernetesApi, key: Key) -> Lease | None:
    try:
        return await kubernetes.lease(key).read()
    except NotFoundError:
        return None


def assess(lease: Lease | None, agents: Sequence[NodeAgent], at: datetime) -> list[str]:
    """Tell who leads and what each node can do; returns what is wrong, with the next step."""
    return [*_leader(lease, at), *_nodes(agents, at)]


def _leader(lease: Lease | None, at: datetime) -> list[str]:
    # Two clocks are compared here, so a lease gets twice its time before it counts as run out.
    if lease is None or not lease.holder or at - lease.renewed > 2 * lease.duration:
        return ["no controller leads: `kubectl logs -l app.kubernetes.io/component=controller`"]
    emit(f"controller: {lease.holder} leads")
    return []


def _nodes(agents: Sequence[NodeAgent], at: datetime) -> list[str]:
    for agent in sorted(agents, key=lambda agent: agent.metadata.name):
        if agent.can_restore(at):
            can = "checkpoints and restores"
        elif agent.can_run(at):
            can = "starts every demo cold"
        else:
            can = "runs no demos"
        emit(f"node {agent.metadata.name}: {can}")
        for condition in agent.status.conditions:
            if condition.status != "True":
                emit(f"  {condition.type}: {condition.message}")
    if not any(agent.can_run(at) for agent in agents):
        return ["no node can run demos: `kubectl get nodeagents -o wide`"]
    return []
