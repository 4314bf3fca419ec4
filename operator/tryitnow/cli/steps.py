"""The steps of a start, in their order, as status.timings has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from tryitnow.api.demoinstance import Timings

PART_OF = {"criu": "restore"}
"""Steps that are measured inside of another."""

MEANING = {
    "bind": "the controller choosing a node",
    "claim": "claiming a warm sandbox",
    "queue": "waiting for other restores on the node",
    "prepare": "making the image present",
    "restore": "Podman and CRIU restoring the containers",
    "criu": "CRIU's own part of it",
    "cold_start": "Podman starting a fresh container",
    "probe": "the application until it answered",
    "hooks": "the afterRestore hooks",
    "fallback": "lost on a restore that failed",
}


@dataclass(frozen=True)
class Step:
    """One step, and how long it took."""

    name: str
    took: timedelta

    @property
    def meaning(self) -> str:
        """What is done in it."""
        return MEANING.get(self.name, self.name)

    @property
    def is_part(self) -> bool:
        """Whether its time is counted in another step as well."""
        return self.name in PART_OF


def steps(timings: Timings | None) -> list[Step]:
    """Return the steps that were taken."""
    if timings is None:
        return []
    found = ((name, getattr(timings, name)) for name in Timings.model_fields if name != "total")
    return [Step(name, took) for name, took in found if took is not None]


def longest(timings: Timings | None) -> Step | None:
    """Return the step that took longest."""
    whole = [step for step in steps(timings) if not step.is_part]
    return max(whole, key=lambda step: step.took, default=None)
