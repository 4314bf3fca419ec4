"""The requirements of a node: pure judgements of the facts.

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
from tryitnow.doctor.verdicts import busy, failed, passed

__all__ = ["CheckName", "judge", "unanswered"]


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
    late = unanswered(facts)
    return tuple(
        busy(check, late[check.name]) if check.name in late else check for check in _checks(facts)
    )


def unanswered(facts: NodeFacts) -> dict[str, str]:
    """Return the checks that got no answer in time, with the program that did not answer."""
    asked = {
        CheckName.RUNTIME: facts.runtime_checkpoint,
        CheckName.CRIU_VERSION: facts.criu,
        CheckName.CRIU_CHECK: facts.criu_check,
        CheckName.NETWORK_LOCK: facts.iptables,
        CheckName.FIREWALL: facts.nft,
    }
    late = {name: outcome.output for name, outcome in asked.items() if outcome.timed_out}
    if facts.libcriu is None and facts.podman and facts.podman.runtime_name == "crun":
        late.setdefault(CheckName.RUNTIME, "ldconfig or ldd did not end in time")
    if facts.podman_timed_out:
        late[CheckName.PODMAN] = facts.podman_problem
    return {str(name): what for name, what in late.items()}


def _checks(facts: NodeFacts) -> Iterator[Check]:
    yield passed(CheckName.LINUX, f"kernel {facts.kernel}")
    yield from software(facts)
    yield from system(facts)
    yield from room(facts)
    yield from limits(facts)
    yield from ports(facts)
