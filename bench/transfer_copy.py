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

from tryitnow.agent.storage.archives import ArchiveName, ArchiveStore
from tryitnow.agent.storage.files import free_bytes
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.agent.transfer.client import Fetcher
from tryitnow.agent.upkeep.memory import give_large_blocks_back
from tryitnow.api.definition import Compression, Definition
from tryitnow.api.limits import DISK_FULL
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import Fetch
from tryitnow.kubernetes.client import connect
from tryitnow.metrics.family import Program
from tryitnow.metrics.instruments import Metrics
from tryitnow.settings import agent_settings


async def main() -> None:
    """Fetch once, and remove it."""
    give_large_blocks_back()  # as the agent does first of all
    asked = json.load(sys.stdin)
    order = Fetch.model_validate(asked["fetch"])
    name = ArchiveName(Key("bench", "bench"), asked["revision"], Compression.NONE)
    container = {"name": "bench", "image": order.archive.image, "ports": [{"containerPort": 80}]}
    definition = Definition.model_validate({"template": {"containers": [container]}})
    settings = agent_settings()
    archives = ArchiveStore(settings.checkpoint_path)
    archives.open()
    disk = Ledger(
        DISK_FULL, "disk", lambda: free_bytes(archives.directory), settings.disk_reserve_bytes
    )
    metrics = Metrics(Program.AGENT)
    try:
        # Sets the peak back to what is held now (proc_pid_clear_refs(5)).
        Path("/proc/self/clear_refs").write_text("5")
        before = _peak_bytes()
        async with connect("agent", metrics) as kubernetes:
            fetcher = Fetcher(
                archives,
                disk,
                metrics,
                settings.transfer_token_file,
                kubernetes,
                settings.transfer_port,
            )
            began = time.perf_counter()
            await fetcher.fetch(name, order, definition)
            seconds = time.perf_counter() - began
        growth = _peak_bytes() - before
    finally:
        shutil.rmtree(archives.directory)
    json.dump({"seconds": seconds, "growth_bytes": growth}, sys.stdout)


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


if __name__ == "__main__":
    asyncio.run(main())
