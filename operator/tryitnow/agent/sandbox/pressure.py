"""How long processes of the node waited for processors, disks and memory (PSI of the kernel)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tryitnow.api.demoinstance import Pressure

_PRESSURE = Path("/proc/pressure")
_RESOURCES = ("cpu", "io", "memory")

_SOME = re.compile(r"^some .*\btotal=(\d+)$", re.MULTILINE)
"""Documentation/accounting/psi.rst: microseconds in which at least one task waited."""

Stalls = Mapping[str, int]
"""Microseconds since the boot, by resource; a kernel without PSI tells none."""


def read_stalls(directory: Path = _PRESSURE) -> Stalls:
    """Return how long processes have waited so far. Reads three small files of the kernel."""
    found = {}
    for resource in _RESOURCES:
        try:
            total = _SOME.search((directory / resource).read_text())
        except OSError:  # the kernel has none, or was started with psi=0
            continue
        if total is not None:
            found[resource] = int(total[1])
    return found


def pressure_between(before: Stalls, after: Stalls, seconds: float) -> Pressure | None:
    """Return the share of a time in which processes waited, in percent; None where unknown."""
    if not before.keys() & after.keys() or seconds <= 0:
        return None

    def percent(resource: str) -> int:
        waited = after.get(resource, 0) - before.get(resource, 0)
        return max(0, min(100, round(waited / 10_000 / seconds)))

    return Pressure(cpu=percent("cpu"), io=percent("io"), memory=percent("memory"))
