"""What doctor found on this node, at the agent's start and from time to time since."""

from __future__ import annotations

from dataclasses import dataclass, field

from tryitnow.api.archive import Versions
from tryitnow.api.nodeagent import Check
from tryitnow.api.template import ResourceLimits
from tryitnow.doctor import Examination


@dataclass(frozen=True)
class Health:
    """One examination of the node."""

    can_run: bool = False
    can_run_message: str = "the node has not been examined yet"
    criu_available: bool = False
    criu_message: str = "the node has not been examined yet"
    checks: tuple[Check, ...] = ()
    versions: Versions = field(default_factory=Versions)
    selinux: bool = False
    """Whether SELinux is enforcing: binds are relabelled then."""

    controllers: frozenset[str] = frozenset()
    """Controllers of the node's cgroups, such as memory: without one its limits cannot hold."""

    def enforceable(self, limits: ResourceLimits) -> ResourceLimits:
        """Return those limits that the node's cgroups can hold."""
        held = {
            field: value for field, value in limits if field in self.controllers or value is None
        }
        return ResourceLimits(**held)


@dataclass
class LastHealth:
    """The newest examination. ``upkeep.heartbeat`` alone replaces it."""

    current: Health = field(default_factory=Health)
    examination: Examination | None = None
    """What doctor found, for the next examination: a slow answer keeps the last verdict."""
