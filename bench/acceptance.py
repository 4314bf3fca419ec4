"""What the figures are held against: ratios within one run, and a few absolute bounds."""

from __future__ import annotations

from dataclasses import dataclass

from bench import demos
from bench.results import Results
from bench.steady import Steady

MB = 1_000_000

IMPORT_LIMITS = {"agent_import": 0.35, "controller_import": 0.35, "demo_import": 0.25}
"""Of a program on a node that is busy: its probes wait for this."""


@dataclass(frozen=True)
class Line:
    """One bound, and what was found."""

    what: str
    found: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the figure keeps the bound."""
        return self.found >= self.limit if self.at_least else self.found <= self.limit

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "FALLS SHORT"
        sign = "≥" if self.at_least else "≤"
        return f"{verdict:12} {self.found:8.3f} {sign} {self.limit:<7g} {self.what}"


def lines(results: Results) -> list[Line]:
    """Return the acceptance lines of a run."""
    s = results.series
    imported, criu, kopf = s["podman_import"], s["criu_restore"], s["kopf_roundtrip"]
    found = [
        Line("restore p50 / podman_import p50", s["restore"].p50 / imported.p50, 0.20),
        Line("restore p95 / podman_import p95", s["restore"].p95 / imported.p95, 0.30),
        Line("restore p50 / archive_import p50", s["restore"].p50 / s["archive_import"].p50, 0.20),
        Line("restore p50 / criu_restore p50", s["restore"].p50 / criu.p50, 2.5),
        Line("warm_ready p50 / kopf_roundtrip p50", s["warm_ready"].p50 / kopf.p50, 3.2),
        Line("warm_ready p95 / kopf_roundtrip p95", s["warm_ready"].p95 / kopf.p95, 10),
        Line("warm_http p50 / podman_import p50", s["warm_http"].p50 / imported.p50, 0.05),
        Line("pod_restore p50 / pod_import p50", s["pod_restore"].p50 / s["pod_import"].p50, 0.25),
        *_burst(results),
        Line(
            "throughput of the copy / curl's, p50",
            s["curl_copy"].p50 / s["copy"].p50,
            0.8,
            at_least=True,
        ),
        Line(
            "memory growth of a copy / archive's size",
            results.copy_growth_bytes / max(results.archive_bytes, 1),
            0.1,
        ),
    ]
    if results.steady is not None:
        found += _steady(results.steady)
    if results.footprint is not None:
        print_ = results.footprint
        found += [
            Line("agent_rss in MB, 10 instances on its node", print_.agent_rss / MB, 120),
            Line("controller_rss in MB, 20 instances", print_.controller_rss / MB, 150),
            Line("cores of an idle agent, 10 instances", print_.agent_idle_cores, 0.02),
        ]
    return found + [
        Line(f"{key} in CPU seconds", seconds, IMPORT_LIMITS[key])
        for key, seconds in results.imports.items()
    ]


def _burst(results: Results) -> list[Line]:
    wanted = {demos.WARM: 8, demos.RESTORE: 24}
    odd = sum(burst.started_by != wanted for burst in results.bursts)
    twice = sum(32 - burst.containers for burst in results.bursts)
    ratio = results.series["burst_32"].p50 / results.by_hand.p50
    found = [
        Line("burst_32 p50 / the same restores by hand p50", ratio, 1.3),
        Line("bursts of 32 that were not 8 Warm and 24 Restore", odd, 0),
        Line("containers handed out twice", twice, 0),
    ]
    if results.base_bursts:
        ratio = results.series["burst_32"].p50 / results.series["burst_32_base"].p50
        found.append(Line("burst_32 p50 / burst_32_base p50", ratio, 1.0))
    return found


def _steady(steady: Steady) -> list[Line]:
    return [
        Line("steady demand: part of the claims that were Warm", steady.warm_share, 0.9, True),
        Line("steady demand: longest time with an empty pool, s", steady.longest_empty_s, 5),
        Line("steady demand: pools full after its end, s", steady.full_after_s, 10),
    ]
