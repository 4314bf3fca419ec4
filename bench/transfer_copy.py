"""One fetch with the agent's code, timed in the node that it runs in. Sent to a node as text.

The order comes on stdin; what it took goes to stdout.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from pathlib import Path

from tryitnow.agent.archive import ArchiveName
from tryitnow.agent.fetch import fetch

from tryitnow.agent.main import open_node
from tryitnow.api.checkpoint import Blueprint, Compression
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import Fetch
from tryitnow.settings import agent_settings


async def main() -> None:
    """Fetch once, and remove it."""
    order = Fetch.model_validate(json.load(sys.stdin))
    name = ArchiveName(Key("bench", "bench"), "1", Compression.NONE)
    container = {"name": "bench", "image": order.archive.image, "ports": [{"containerPort": 80}]}
    blueprint = Blueprint.model_validate({"template": {"containers": [container]}})
    settings = agent_settings()
    async with open_node(settings) as node:
        # Sets the peak back to what is held now (proc_pid_clear_refs(5)).
        Path("/proc/self/clear_refs").write_text("5")
        before = _peak_bytes()
        began = time.perf_counter()
        await fetch(node, name, order, blueprint)
        seconds = time.perf_counter() - began
        growth = _peak_bytes() - before
    shutil.rmtree(settings.checkpoint_path)
    json.dump({"seconds": seconds, "growth_bytes": growth}, sys.stdout)


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


if __name__ == "__main__":
    asyncio.run(main())
