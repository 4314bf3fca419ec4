"""What the operator's own programs use: memory, and the processor while nothing happens."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench import BenchError, demos
from bench.stage import COLD_POOL, Stage

INSTANCES_PER_NODE = 10
IDLE_S = 20.0
"""Over how long an idle agent is watched: two of its rarest regular looks (10 s)."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Footprint:
    """With ten instances on each node."""

    agent_rss: int
    controller_rss: int
    agent_idle_cores: float


def measure(stage: Stage) -> Footprint:
    """Run ten instances on each node, let things come to rest, and look."""
    nodes = stage.cluster.node_names
    names = [f"idle-{number}" for number in range(INSTANCES_PER_NODE * len(nodes))]
    demos.create_all(stage, COLD_POOL, names)
    try:
        for name in names:
            stage.instances.wait(name, demos.BURST_WITHIN_S)
        agents = [_python(stage.cluster.unit_pid(f"agent-{node}")) for node in nodes]
        controller = _python(stage.cluster.unit_pid("controller"))
        before = [_cpu_seconds(pid) for pid in agents]
        began = time.perf_counter()
        time.sleep(IDLE_S)  # a span of time is what is measured here
        span = time.perf_counter() - began
        used = [_cpu_seconds(pid) - had for pid, had in zip(agents, before, strict=True)]
        return Footprint(
            agent_rss=max(_rss_bytes(pid) for pid in agents),
            controller_rss=_rss_bytes(controller),
            agent_idle_cores=max(used) / span,
        )
    finally:
        demos.remove_all(stage, names)


def _python(unit: int) -> int:
    """The program itself below a unit's process, which only entered the node for it."""
    for path in Path(f"/proc/{unit}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            return _python(child)
    if b"tryitnow" not in Path(f"/proc/{unit}/cmdline").read_bytes():
        raise BenchError(f"process {unit} is none of the operator's; is the lab still up?")
    return unit


def _rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"process {pid} has ended; see `python -m lab status`")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
