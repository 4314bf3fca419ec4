"""What a metric is: its name, its meaning, its labels, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

CHECKPOINT = ("namespace", "checkpoint")
"""Labels of what is told by Checkpoint. Labels hold what people made and can count (checkpoints,
nodes) and words from fixed lists; never what names an instance, a container or a revision."""


class Program(StrEnum):
    """The program that exposes a metric."""

    CONTROLLER = "controller"
    AGENT = "agent"


@dataclass(frozen=True, kw_only=True)
class Family:
    """One metric with all its labels; the unit is the end of its name."""

    type: ClassVar[str]

    name: str
    help: str
    labels: tuple[str, ...] = ()
    programs: tuple[Program, ...]

    @property
    def series(self) -> tuple[str, ...]:
        """Names under which its samples are found."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True)
class Counted(Family):
    """Something that happens, counted since the start of the program."""

    type = "counter"


@dataclass(frozen=True, kw_only=True)
class Timed(Family):
    """Something that takes time, in seconds."""

    type = "histogram"

    buckets: tuple[float, ...]
    """Upper bounds in seconds, without the infinite one."""

    @property
    def series(self) -> tuple[str, ...]:
        """Names under which its samples are found."""
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))


@dataclass(frozen=True, kw_only=True)
class State(Family):
    """How things stand, read at each scrape from what the program knows anyway."""

    type = "gauge"
