"""Doctor checks whether a node can run and restore demos, and names a fix where it cannot.

Three steps: ``facts`` and the modules that it calls look (and are the only ones that touch the
node, through ``host``), ``checks`` and the modules that it calls judge what was seen, ``report``
tells people and programs. Nothing here changes anything, and nothing here knows of Kubernetes.
"""

from __future__ import annotations

from tryitnow.api.archive import Versions
from tryitnow.doctor.checks import judge, unanswered
from tryitnow.doctor.examination import Examination
from tryitnow.doctor.facts import NodeFacts, gather
from tryitnow.doctor.report import merge
from tryitnow.doctor.timeouts import load, timeouts_for
from tryitnow.doctor.version import version_in
from tryitnow.settings import AgentSettings

__all__ = ["Examination", "examine", "versions"]


async def examine(settings: AgentSettings, previous: Examination | None = None) -> Examination:
    """Examine the node that this runs on; takes 0.1 s, or longer where the node is busy.

    Args:
        settings: What the node is to hold, and where things are.
        previous: What the last examination came to. What it found is kept for a while where this
            one gets no answer, and each examination in a row waits longer.

    """
    attempts = max(previous.unanswered.values(), default=0) if previous else 0
    facts = await gather(settings, waits=timeouts_for(settings.doctor_timeout, attempts, load()))
    checks, late = judge(facts), unanswered(facts)
    current = Examination(
        checks=checks,
        versions=versions(facts),
        controllers=facts.controllers,
        selinux=facts.podman is not None and facts.podman.selinux,
        unanswered=dict.fromkeys(late, 1),
        busy=frozenset(late),
    )
    return merge(previous, current) if previous else current


def versions(facts: NodeFacts) -> Versions:
    """Return the versions that belong into an archive's record; empty where not found."""
    podman = facts.podman
    runtime = f"{podman.runtime_name} {version_in(podman.runtime_version)}" if podman else ""
    return Versions(
        kernel=facts.kernel,
        criu=version_in(facts.criu.output) if facts.criu.ok else "",
        podman=podman.version if podman else "",
        runtime=runtime.strip(),
        cpu_features=facts.cpu_features,
    )
