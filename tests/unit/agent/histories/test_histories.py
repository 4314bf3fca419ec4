"""Whatever happens to a node, in whatever order: some things always hold, and all gets well again.

Each seed is one history: a whole agent with its real queues, actors and looks, on a virtual clock,
over a Podman, a cluster and a network with everything that goes wrong with them (``happenings``).
``SEEDS=from-to`` has others lived than those of every day; the output of a failure is the history,
to be read from top to bottom. ``PYTHONPATH=operator:. PYTHONHASHSEED=0 python -m
tests.unit.agent.histories SEED`` lives one of them alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]

EVERY_DAY = "0-1999"
GROUP = 250
"""Seeds of one test: enough that the start of their process takes no time beside them."""

FAILED = ("344", "503", "884", "1502", "1670")
"""Seeds that failed, of all days: they stay, whichever seeds a day has."""


def _groups(text: str) -> list[str]:
    first, _, last = text.partition("-")
    begin, end = int(first), int(last or first) + 1
    return [f"{n}-{min(n + GROUP, end) - 1}" for n in range(begin, end, GROUP)]


def _live(seeds: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.agent.histories", seeds],
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": "operator:."},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


@pytest.mark.parametrize("seeds", _groups(os.environ.get("SEEDS", EVERY_DAY)))
def test_a_node_gets_well_whatever_happened(seeds: str) -> None:
    _live(seeds)


@pytest.mark.parametrize("seed", FAILED)
def test_a_seed_that_failed_once_does_not_fail_again(seed: str) -> None:
    _live(seed)
