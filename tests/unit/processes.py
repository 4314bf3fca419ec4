"""A program that leaves a child behind, and what becomes of the child."""

from __future__ import annotations

import asyncio
from pathlib import Path


def hanging_script(child: Path) -> str:
    """A shell's script that waits for its child, whose number it writes into a file."""
    return f"sleep 60 & echo $! > {child}.new; mv {child}.new {child}; wait"


async def begun(child: Path, within_seconds: float) -> None:
    """Wait until the script has its child."""
    async with asyncio.timeout(within_seconds):
        while not child.exists():  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.01)


async def ended(child: Path, within_seconds: float) -> None:
    """Wait until the child has ended."""
    async with asyncio.timeout(within_seconds):
        while _runs(int(child.read_text())):  # noqa: ASYNC110 - it is no child of ours
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        # After its name, which stands in brackets. Z: it has ended, and nobody asked for its end.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
