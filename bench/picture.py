"""The picture of a run: plain SVG, readable on light and dark pages."""

from __future__ import annotations

from html import escape

from bench.results import Results

_BARS = {
    "cold_start": "cold start",
    "podman_import": "podman restore --import",
    "restore": "demo by prepared restore",
    "criu_restore": "CRIU's own part of it",
    "warm_http": "demo from the warm pool",
    "kopf_roundtrip": "a Kopf handler that does nothing",
}
"""What is shown, in the order from the slowest to the least that is possible."""

_OURS = {"restore", "warm_http"}
_ROW, _LEFT, _WIDTH, _RIGHT = 34, 235, 420, 125

_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .small { font-size: 11px; fill: #59636e }
  .bar { fill: #8c959f } .ours { fill: #0969da } .tick { stroke: #1f2328; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .small { fill: #9198a1 }
    .ours { fill: #4493f8 } .tick { stroke: #f0f6fc }
  }
"""


def picture(results: Results) -> str:
    """Draw medians as bars and each p95 as a tick, all on one linear scale from zero."""
    longest = max(results.series[kind].p95 for kind in _BARS)
    height = _ROW * len(_BARS) + 62
    whole = _LEFT + _WIDTH + _RIGHT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {height}" '
        f'width="{whole}" height="{height}" role="img" aria-labelledby="title">',
        '<title id="title">Time until a private copy of the application answers</title>',
        f"<style>{_STYLE}</style>",
        '<text x="10" y="22">Time until a private copy of the application answers</text>',
    ]
    for row, (kind, text) in enumerate(_BARS.items()):
        series = results.series[kind]
        out += _bar(row, kind, text, series.p50, series.p95, _WIDTH / longest)
    n = min(results.series[kind].n for kind in _BARS)
    note = f"Bars: median of {n} samples each, interleaved in one run of make bench. Tick: p95."
    out += [f'<text class="small" x="10" y="{height - 10}">{note}</text>', "</svg>", ""]
    return "\n".join(out)


def _bar(row: int, kind: str, text: str, p50: float, p95: float, scale: float) -> list[str]:
    top = 36 + row * _ROW
    name = "bar ours" if kind in _OURS else "bar"
    length, tick = max(p50 * scale, 1.0), _LEFT + p95 * scale
    label = f"{p50:.2f} s" if p50 >= 1 else f"{p50 * 1000:.0f} ms"
    return [
        f'<text x="{_LEFT - 10}" y="{top + 17}" text-anchor="end">{escape(text)}</text>',
        f'<rect class="{name}" x="{_LEFT}" y="{top}" width="{length:.1f}" height="24" rx="2"/>',
        f'<line class="tick" x1="{tick:.1f}" x2="{tick:.1f}" y1="{top + 4}" y2="{top + 20}"/>',
        f'<text x="{max(_LEFT + length, tick) + 8:.1f}" y="{top + 17}">{label}</text>',
    ]
