"""Whether a node can do what Try It Now asks of it, and the next command where it cannot.

Three steps, one module each: ``facts`` looks (and is the only one that touches the node, through
``host``), ``checks`` judges what was seen, ``report`` tells people and programs. Nothing here
mends anything, and nothing here knows of Kubernetes.
"""

from __future__ import annotations

from dataclasses import dataclass

from tryitnow.api.archive import Versions
from tryitnow.api.nodeagent import Check
from tryitnow.doctor.checks import judge
from tryitnow.doctor.facts import NodeFacts, gather
from tryitnow.doctor.version import version_in
from tryitnow.settings import AgentSettings

__all__ = ["Examination", "examine", "versions"]


@dataclass(frozen=True)
class Examination:
    """What an examination of a node came to."""

    checks: tuple[Check, ...]
    versions: Versions
    controllers: frozenset[str]
    """Controllers of the node's cgroups that can hold limits."""


async def examine(settings: AgentSettings) -> Examination:
    """Examine the node that this runs on; takes 0.1 s, or 20 s where CRIU hangs."""
    facts = await gather(settings)
    return Examination(checks=judge(facts), versions=versions(facts), controllers=facts.controllers)


def versions(facts: NodeFacts) -> Versions:
    """Return the versions that belong into an archive's record; empty where not found."""
    podman = facts.podman
    runtime = f"{podman.runtime_name} {version_in(podman.runtime_version)}" if podman else ""
    return Versions(
        kernel=facts.kernel,
        criu=version_in(facts.criu.output) if facts.criu.ok else "",
        podman=podman.version if podman else "",
        runtime=runtime.strip(),
    )
