"""What a lab leaves on the machine."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lab import cgroups, network, state


def leftovers(name: str) -> dict[str, list[str]]:
    """All that belongs to the lab of that name, by where it is found."""
    mounts = Path("/proc/mounts").read_text().splitlines()
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True)
    directory = str(state.ROOT / name)
    return {
        "network namespaces": [p.name for p in network.namespaces(state.Lab(name))],
        "cgroups": [p.name for p in cgroups.mountpoint().glob(f"tin-{name}")],
        "mounts": [line for line in mounts if directory in line],
        "processes": [line for line in _command_lines() if directory in line],
        "files": [directory] if Path(directory).exists() else [],
        "links": [line for line in links.stdout.splitlines() if f"tin-{name}" in line],
    }


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            yield path.read_text(errors="replace").replace("\0", " ")
