"""Removes all leftovers of a lab, by its name alone: after a crash or a reboot as after `down`.

The order matters: first the processes, whose namespaces (and with them all mounts) go when the
last one ends; then the network; then the cgroups, which must be empty; then the files.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from lab import LabError, cache, cgroups, network, processes, state
from lab.state import Lab

_GONE_WITHIN_S = 15.0


def names() -> list[str]:
    """Every lab of which this machine shows a trace."""
    found = {lab.name for lab in state.known()}
    if network.NAMESPACES.is_dir():
        found |= {
            path.name.split("-")[1]
            for path in network.NAMESPACES.iterdir()
            if path.name.startswith("tin-")
        }
    found |= {path.name.removeprefix("tin-") for path in cgroups.mountpoint().glob("tin-*")}
    return sorted(found)


def remove(lab: Lab) -> None:
    """Remove all of it; does nothing where nothing is."""
    shape = state.shape(lab)
    _end_processes(lab)
    _unmount(lab.directory)
    with cache.lock(state.SHARED):
        network.remove(lab, shape.network if shape else None)
        cgroups.remove(lab)
        if lab.directory.exists():
            shutil.rmtree(lab.directory)
        if state.ROOT.is_dir() and not state.known():
            shutil.rmtree(state.ROOT)


def _end_processes(lab: Lab) -> None:
    # The supervisor first: it would start the others again.
    recorded = sorted((lab.directory / "processes").glob("*.json"))
    recorded.sort(key=lambda path: path.stem != "supervisor")
    found = [process for path in recorded if (process := processes.load(path))]
    for process in found:
        process.kill()
    # A node's first process takes all others of its PID namespace with it; these two find what
    # was never written down.
    cgroups.kill(lab)
    for namespace in network.namespaces(lab):
        for process in processes.in_network_namespace(namespace):
            process.kill()
            found.append(process)
    left = processes.wait_gone(found, _GONE_WITHIN_S)
    if left:
        numbers = ", ".join(str(process.pid) for process in left)
        raise LabError(f"Processes {numbers} of the lab {lab.name} do not end when killed.")


def _unmount(directory: Path) -> None:
    """Nothing is mounted there in this mount namespace, unless someone did it by hand."""
    below = f"{directory}/"
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(below)]):
        subprocess.run(["umount", "--lazy", mount], check=True)
