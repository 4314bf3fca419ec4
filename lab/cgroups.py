"""One cgroup v2 subtree per node, so that everything a node runs can be found and ended."""

from __future__ import annotations

import contextlib
import errno
import time
from pathlib import Path

from lab import LabError
from lab.state import Lab


def mountpoint() -> Path:
    """Where this machine has cgroup v2: often /sys/fs/cgroup, or a part of it beside v1."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise LabError("This machine mounts no cgroup2 file system: Podman and CRIU need one.")


def of_lab(lab: Lab) -> Path:
    """The subtree of a lab."""
    return mountpoint() / f"tin-{lab.name}"


def of_node(lab: Lab, node: str) -> Path:
    """The subtree that a node sees as the whole of /sys/fs/cgroup."""
    return of_lab(lab) / node


def system_of_node(lab: Lab, node: str) -> Path:
    """Where the node's own processes live.

    Not in the subtree's top: cgroup v2 gives controllers only to children of a group that holds
    no processes itself, and containers need the controllers.
    """
    return of_node(lab, node) / "system"


def make(lab: Lab, node: str) -> None:
    """Make the groups of one node, with all controllers that this machine can give."""
    system_of_node(lab, node).mkdir(parents=True, exist_ok=True)
    for group in (of_lab(lab), of_node(lab, node)):
        for controller in (group / "cgroup.controllers").read_text().split():
            # A controller that cannot be delegated here is one fewer limit, not a broken node.
            with contextlib.suppress(OSError):
                (group / "cgroup.subtree_control").write_text(f"+{controller}")


def kill(lab: Lab) -> None:
    """End every process in the lab's subtree."""
    with contextlib.suppress(OSError):
        (of_lab(lab) / "cgroup.kill").write_text("1")


def remove(lab: Lab, *, within: float = 10.0) -> None:
    """Remove the subtree, deepest first (Podman leaves libpod* groups behind)."""
    top = of_lab(lab)
    deadline = time.monotonic() + within
    while top.exists():
        busy: OSError | None = None
        for group in sorted(_groups(top), key=lambda path: -len(path.parts)):
            try:
                group.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                busy = error
        if busy and time.monotonic() > deadline:
            raise LabError(f"{busy.filename} still holds processes: see its cgroup.procs.")
        if busy:
            time.sleep(0.02)  # killed processes leave their group a moment after


def _groups(top: Path) -> list[Path]:
    return [top, *(path for path in top.rglob("*") if path.is_dir())]
