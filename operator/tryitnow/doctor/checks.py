"""What a node must have, and what it should have: pure judgements of what was found.

A check whose answer follows from another one's failure is left out: one cause, one line.
"""

from __future__ import annotations

from collections.abc import Iterator

from tryitnow.api.nodeagent import Check
from tryitnow.doctor.facts import NodeFacts
from tryitnow.doctor.limits import limits
from tryitnow.doctor.names import CheckName
from tryitnow.doctor.ports import ports
from tryitnow.doctor.room import room
from tryitnow.doctor.software import software
from tryitnow.doctor.system import system
from tryitnow.doctor.verdicts import failed, passed

__all__ = ["CheckName", "judge"]


def judge(facts: NodeFacts) -> tuple[Check, ...]:
    """Return a verdict on everything that matters, in the order in which to fix it."""
    if facts.system != "Linux":
        return (
            failed(
                CheckName.LINUX,
                f"this is {facts.system}",
                "run it on a node: Podman's containers and CRIU exist on Linux only",
            ),
        )
    return tuple(_checks(facts))


def _checks(facts: NodeFacts) -> Iterator[Check]:
    yield passed(CheckName.LINUX, f"kernel {facts.kernel}")
    yield from software(facts)
    yield from system(facts)
    yield from room(facts)
    yield from limits(facts)
    yield from ports(facts)
