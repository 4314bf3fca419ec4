"""Features of the processor that a checkpoint depends on."""

from __future__ import annotations

import re

from tryitnow.api.processor import RELEVANT

_FLAGS = re.compile(r"^(?:flags|Features)\s*: (.*)$", re.MULTILINE)


def cpu_features(cpuinfo: str) -> tuple[str, ...]:
    """Return the relevant features that all processors of the node have, sorted."""
    # Cores differ in some machines, and a process runs on each of them.
    each = [set(flags.split()) for flags in _FLAGS.findall(cpuinfo)]
    return tuple(sorted(RELEVANT.intersection(*each))) if each else ()
