"""What all ways of starting have as their result."""

from __future__ import annotations

from dataclasses import dataclass, field

from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.api.demoinstance import StartedBy, Timings


@dataclass(frozen=True)
class Running:
    """A sandbox whose application answers inside. Its firewall is closed.

    Attributes:
        sandbox: The sandbox.
        started_by: How it was started.
        timings: How long the steps took.
        restored_pids: A process of each container, where they came from a checkpoint and do not
            have the name of their demo's host yet.

    """

    sandbox: Sandbox
    started_by: StartedBy
    timings: Timings = field(default_factory=Timings)
    restored_pids: tuple[int, ...] = ()
