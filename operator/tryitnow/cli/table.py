"""Tables and small measures for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

_GAP = "  "
_NONE = "-"


def table(head: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    """Return a table as kubectl prints one: columns as wide as what stands in them."""
    lines = [list(head), *([cell or _NONE for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def seconds(value: timedelta | None) -> str | None:
    """Return a time as people compare it: 0.41 s."""
    return f"{value.total_seconds():.2f} s" if value is not None else None


def age(at: datetime, since: datetime | None) -> str | None:
    """Return how long ago it was, in the largest unit that fits."""
    if since is None:
        return None
    passed = max(0, int((at - since).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if passed >= 2 * size:
            return f"{passed // size}{unit}"
    return f"{passed}s"


def size(value: int) -> str:
    """Return a size in the unit that people know from ``df -h``."""
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def first_line(text: str, width: int = 90) -> str:
    """Return the beginning of a message; the whole of it stands in the object's story."""
    line = text.partition("\n")[0]
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"
