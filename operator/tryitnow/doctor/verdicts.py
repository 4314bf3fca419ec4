"""The wording of verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tryitnow.api.nodeagent import Check, Verdict
from tryitnow.doctor.facts import NodeFacts
from tryitnow.doctor.host import CommandResult
from tryitnow.doctor.names import CheckName

FEWER_DEMOS = "a smaller MAX_INSTANCES (`agent.maxInstances`)"

_SEVERITY = (Verdict.PASS, Verdict.WARN, Verdict.FAIL)

_TAIL_LINES = 4
"""`criu check` says which features failed, then the verdict."""


def passed(name: CheckName, found: str) -> Check:
    """Return the verdict that all is well."""
    return Check(name=name, verdict=Verdict.PASS, found=found)


def warned(name: CheckName, found: str, remedy: str) -> Check:
    """Return the verdict that something works, but not for everybody or not for long."""
    return Check(name=name, verdict=Verdict.WARN, found=found, remedy=remedy)


def failed(name: CheckName, found: str, remedy: str) -> Check:
    """Return the verdict that something does not work."""
    return Check(name=name, verdict=Verdict.FAIL, found=found, remedy=remedy)


def worst(checks: Iterable[Check]) -> Check:
    """Return the check with the worst verdict; of several, the first."""
    return max(checks, key=lambda check: _SEVERITY.index(check.verdict))


def busy(check: Check, what: str) -> Check:
    """Return a check whose answer did not come in time: nothing is known, so nothing is blamed."""
    return Check(
        name=check.name,
        verdict=check.verdict,
        found=f"busy, looking again: {what}",
        remedy="wait; where it stays so, find out what keeps the node's disk and processors busy "
        "(`cat /proc/pressure/io /proc/pressure/cpu`), or give it more time by DOCTOR_TIMEOUT "
        "(`agent.doctorTimeout`)",
    )


def install(facts: NodeFacts, *, debian: str, fedora: str) -> str:
    """Return how missing packages get onto the node."""
    if facts.is_our_image:
        return f"use a newer image of try-it-now, or one with {debian} added (`image` of the chart)"
    on_debian, on_fedora = f"`apt-get install -y {debian}`", f"`dnf install -y {fedora}`"
    if "debian" in facts.distribution:
        return on_debian
    if "fedora" in facts.distribution:
        return on_fedora
    return f"on Debian {on_debian}, on Fedora {on_fedora}"


def tail(outcome: CommandResult) -> str:
    """Return the end of what a command wrote, on one line: a condition's message is one."""
    lines = [line.strip() for line in outcome.output.splitlines() if line.strip()]
    return "; ".join(lines[-_TAIL_LINES:]) or f"ended with status {outcome.status}"


def gibibytes(size: int) -> str:
    """Return a size as people compare it with a disk's or a machine's."""
    return f"{size / (1 << 30):.1f} GiB"


def sysctl(values: Mapping[str, int | str]) -> str:
    """Return how to raise limits of the kernel."""
    words = " ".join(f"{key}={value}" for key, value in values.items())
    return (
        f"on the node itself `sysctl -w {words}`, and the same in a file of /etc/sysctl.d for the "
        "next boot"
    )
