"""The result of an examination of a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tryitnow.api.archive import Versions
from tryitnow.api.nodeagent import Check


@dataclass(frozen=True)
class Examination:
    """The result of an examination of a node."""

    checks: tuple[Check, ...]
    versions: Versions
    controllers: frozenset[str]
    """Controllers of the node's cgroups that can hold limits."""

    selinux: bool = False
    """Podman labels its containers: what is bound into them has to be relabelled (z)."""

    unanswered: Mapping[str, int] = field(default_factory=dict)
    """Checks that got no answer in time, and at how many examinations in a row. While there are
    any, the node is to be examined again soon."""

    busy: frozenset[str] = frozenset()
    """Those of them that nothing is known about: their verdict says that the node is busy."""
