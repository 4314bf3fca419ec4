"""Ways in which a node writes the memory of demos to a disk, read from /proc."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tryitnow.doctor.host import Host

_IN_MEMORY = "/dev/zram"
"""Compressed swap, which stays in memory (zram.rst)."""


@dataclass(frozen=True, kw_only=True)
class SpillFacts:
    """Where memory goes besides archives."""

    swaps: tuple[str, ...]
    """Files and devices that the kernel swaps to, without those in memory."""

    core_pattern: str
    """Where the memory of a process goes that crashes (core(5)); empty where it cannot be read."""

    dumps_cores: bool
    """The processes of demos may write such a file: the limit that they have from Podman."""


def examine_spills(host: Host) -> SpillFacts:
    """Read them. Never raises."""
    # proc_swaps(5): a line of titles, then one for each, with its name first.
    lines = host.read("/proc/swaps").splitlines()[1:]
    names = [line.split()[0] for line in lines if line.strip()]
    limit = re.search(r"^Max core file size +(\S+) ", host.read_of_podman("limits"), re.MULTILINE)
    return SpillFacts(
        swaps=tuple(name for name in names if not name.startswith(_IN_MEMORY)),
        core_pattern=host.read("/proc/sys/kernel/core_pattern").strip(),
        dumps_cores=limit is not None and limit[1] != "0",
    )
