"""``tryitnow check-installation``, which `helm test` runs: who leads, and which nodes serve.

Everything is read from the API, so it can run anywhere; `tryitnow doctor` looks at one node itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tryitnow.api.meta import Key, now
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.kubernetes.client import KubernetesApi, connect
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError
from tryitnow.kubernetes.lease import CONTROLLER_LEASE, Lease
from tryitnow.settings import ControllerSettings


async def run(settings: ControllerSettings) -> int:
    """Print what works and what does not; returns the exit status."""
    try:
        async with connect("check") as kubernetes:
            lease = await _lease(kubernetes, Key(settings.namespace, CONTROLLER_LEASE))
            agents = (await kubernetes.list_all(NodeAgent)).items
    except KubernetesError as error:
        problems = [str(error)]
    else:
        problems = assess(lease, agents, now())
    for problem in problems:
        print(f"problem: {problem}")
    return 1 if problems else 0


async def _lease(kubernetes: KubernetesApi, key: Key) -> Lease | None:
    try:
        return await kubernetes.lease(key).read()
    except NotFoundError:
        return None


def assess(lease: Lease | None, agents: Sequence[NodeAgent], at: datetime) -> list[str]:
    """Print who leads and what each node can do; returns what is wrong, with the next step."""
    return [*_leader(lease, at), *_nodes(agents, at)]


def _leader(lease: Lease | None, at: datetime) -> list[str]:
    # Two clocks are compared here, so a lease gets twice its time before it counts as run out.
    if lease is None or not lease.holder or at - lease.renewed > 2 * lease.duration:
        return ["no controller leads: `kubectl logs -l app.kubernetes.io/component=controller`"]
    print(f"controller: {lease.holder} leads")
    return []


def _nodes(agents: Sequence[NodeAgent], at: datetime) -> list[str]:
    for agent in sorted(agents, key=lambda agent: agent.metadata.name):
        if agent.can_thaw(at):
            can = "freezes and thaws"
        elif agent.can_run(at):
            can = "starts every demo cold"
        else:
            can = "runs no demos"
        print(f"node {agent.metadata.name}: {can}")
        for condition in agent.status.conditions:
            if condition.status != "True":
                print(f"  {condition.type}: {condition.message}")
    if not any(agent.can_run(at) for agent in agents):
        return ["no node can run demos: `kubectl get nodeagents -o wide`"]
    return []
