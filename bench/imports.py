"""What a program costs before it does anything: processor time until its modules are loaded."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

TRIES = 10
"""The best counts: nothing makes a program quicker than it is."""

_OPERATOR = Path(__file__).parents[1] / "operator"

PROGRAMS = {
    "agent_import": "tryitnow.agent.main",
    "controller_import": "tryitnow.controller.main",
    "demo_import": "tryitnow.cli.demo",
}
"""The keys of build/bench.json, and what each loads."""


def measure() -> dict[str, float]:
    """Return the CPU seconds of each program, with bytecode, as in the image."""
    with tempfile.TemporaryDirectory() as bytecode:
        return {key: _best(module, bytecode) for key, module in PROGRAMS.items()}


def _best(module: str, bytecode: str) -> float:
    script = f"from tryitnow.packages import spare_start; spare_start(); import {module}"
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env |= {"PYTHONPATH": str(_OPERATOR), "PYTHONPYCACHEPREFIX": bytecode}
    seconds = [_cpu_seconds([sys.executable, "-c", script], env) for _ in range(TRIES + 1)]
    return min(seconds[1:])  # the first one writes the bytecode


def _cpu_seconds(argv: list[str], env: dict[str, str]) -> float:
    before = _of_children()
    subprocess.run(argv, env=env, check=True)
    return _of_children() - before


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
