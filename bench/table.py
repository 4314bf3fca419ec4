"""What is printed at the end of a run."""

from __future__ import annotations

from bench import acceptance
from bench.results import BY_HAND, KINDS, Results
from bench.series import Series


def table(results: Results) -> str:
    """Return the times, the ratios, and what they are held against."""
    rows = [(text, results.series[kind]) for kind, text in KINDS.items()]
    rows = [(text, series) for text, series in [*rows, (BY_HAND, results.by_hand)] if series.n]
    width = max(len(text) for text, _ in rows)
    reference = results.series["podman_import"].p50
    out = [f"{'':{width}}  {'p50':>9}  {'p95':>9}  {'n':>3}  {'/ import':>8}"]
    out += [_row(text, series, width, reference) for text, series in rows]
    out += ["", *map(str, acceptance.lines(results))]
    for what, bursts in (
        ("burst of 32", results.bursts),
        ("burst of 32 on the lab of BENCH_BASE", results.base_bursts),
    ):
        out += [f"{what}: {burst.total:.2f} s: {_ways(burst.started_by)}" for burst in bursts]
    if results.steady is not None:
        out.append(f"steady demand: {_ways(results.steady.started_by)}")
    return "\n".join(out)


def latest(results: Results) -> str:
    """Return the newest sample of each kind, in a line."""
    found = ((kind, series.samples[-1]) for kind, series in results.series.items() if series.n)
    return "  " + ", ".join(f"{kind} {seconds * 1000:.0f}" for kind, seconds in found) + " ms"


def _ways(started_by: dict[str, int]) -> str:
    return ", ".join(f"{count} {way}" for way, count in sorted(started_by.items()))


def _row(text: str, series: Series, width: int, reference: float) -> str:
    times = f"{_ms(series.p50)}  {_ms(series.p95)}  {series.n:3}"
    return f"{text:{width}}  {times}  {series.p50 / reference:8.3f}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:6.1f} ms"
