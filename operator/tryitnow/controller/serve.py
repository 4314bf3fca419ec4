"""Which revision new demos are started from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from tryitnow.api.archive import Archive
from tryitnow.controller.doubt import archive_of
from tryitnow.controller.observed import Observed, PlannedEvent


@dataclass(frozen=True)
class Serving:
    """The revision that serves."""

    revision: str | None = None
    """Its identity; None where no revision serves."""

    label: str = ""
    """Its number, for people."""

    archive: Archive | None = None
    build_duration: timedelta | None = None
    is_wanted: bool = False
    """Whether it is the one that the spec describes."""

    events: tuple[PlannedEvent, ...] = ()


def choose_serving(observed: Observed) -> Serving:
    """Choose the wanted revision once it is verified; until then the one that served before."""
    status = observed.checkpoint.status
    good = observed.good(observed.wanted)
    if not good:
        if not observed.good(status.current_revision):
            return Serving(build_duration=status.build_duration)
        serving = status.current_revision or ""
        label = observed.label(serving)
        return Serving(serving, label, status.archive, status.build_duration)
    label = observed.label(observed.wanted)
    known = status.archive if status.current_revision == observed.wanted else None
    digests = {c.status.archive.sha256 for c in good if c.status.archive is not None}
    if known is not None and known.sha256 in digests:
        return Serving(observed.wanted, label, known, status.build_duration, is_wanted=True)
    builder = next((c for c in good if c.spec.fetch is None), good[0])
    took = builder.status.build_duration
    duration = f" in {took.total_seconds():.1f} s" if took else ""
    verified = PlannedEvent(
        "Verified",
        f"revision {label} was built on {builder.spec.node_name}{duration}, and a test "
        "restore of it answered",
    )
    archive = archive_of(builder)
    return Serving(observed.wanted, label, archive, took, is_wanted=True, events=(verified,))
