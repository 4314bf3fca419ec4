"""Every metric of both programs: what is scraped, documented and alerted on."""

from __future__ import annotations

from tryitnow.metrics import cluster, node, program, starts
from tryitnow.metrics.family import Family, Program

ALL: tuple[Family, ...] = tuple(
    sorted(
        (
            value
            for module in (cluster, node, program, starts)
            for value in vars(module).values()
            if isinstance(value, Family)
        ),
        key=lambda family: family.name,
    )
)
"""In the order of their names."""


def exposed_by(program: Program | None) -> tuple[Family, ...]:
    """Return the metrics of a program; all of them without one."""
    return tuple(family for family in ALL if program is None or program in family.programs)
