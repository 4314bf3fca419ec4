"""Everything that a run found out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from bench.demos import Burst
from bench.footprint import Footprint
from bench.series import Series
from bench.steady import Steady

KINDS = {
    "cold_start": "cold start, `podman run` to HTTP 200",
    "podman_import": "`podman container restore --import` to HTTP 200",
    "archive_import": "the same of the operator's archive, into a pod, to HTTP 200",
    "restore": "DemoInstance, prepared restore, to HTTP 200",
    "pod_import": "the shop as a pod, both containers imported at once, to HTTP 200",
    "pod_restore": "DemoInstance of that pod, prepared restore, to HTTP 200",
    "warm_ready": "DemoInstance, warm pool, to Ready seen",
    "warm_http": "DemoInstance, warm pool, to HTTP 200",
    "criu_restore": "CRIU's own part of a restore",
    "kopf_roundtrip": "a trivial Kopf handler's round trip",
    "burst_8": "burst of 8, 8 warm sandboxes, to the last Ready",
    "burst_32": "burst of 32, 8 warm sandboxes, to the last Ready",
    "burst_32_base": "the same on the lab of BENCH_BASE",
    "steady_ready": "steady demand, 2 claims per second, to Ready seen",
    "copy": "an archive's copy between agents",
    "curl_copy": "curl of the same file",
}
"""The keys of build/bench.json."""

BY_HAND = "24 prepared restores by hand, 2 at once per node"


@dataclass
class Results:
    """Series by kind, and what is no series."""

    series: dict[str, Series] = field(default_factory=lambda: {kind: Series() for kind in KINDS})
    by_hand: Series = field(default_factory=Series)
    bursts: list[Burst] = field(default_factory=list)
    base_bursts: list[Burst] = field(default_factory=list)
    steady: Steady | None = None
    copy_growth_bytes: int = 0
    archive_bytes: int = 0
    footprint: Footprint | None = None
    imports: dict[str, float] = field(default_factory=dict)
    """CPU seconds until a program has loaded its modules."""

    def add(self, kind: str, seconds: float) -> None:
        """Take a sample in."""
        self.series[kind].add(seconds)

    def to_json(self) -> str:
        """Return build/bench.json."""
        content: dict[str, object] = {k: s.as_json() for k, s in self.series.items() if s.n}
        if self.steady is not None:
            content["steady"] = {
                "started_by": self.steady.started_by,
                "warm_share": self.steady.warm_share,
                "longest_empty": round(self.steady.longest_empty_s, 3),
                "full_after": round(self.steady.full_after_s, 3),
            }
        if self.footprint is not None:
            content["agent_rss"] = self.footprint.agent_rss
            content["controller_rss"] = self.footprint.controller_rss
        content |= {key: round(seconds, 3) for key, seconds in self.imports.items()}
        return json.dumps(content, indent=2) + "\n"
