"""Processes that a Podman which was killed in the middle of a start leaves behind.

Its conmon and crun wait for an order that never comes, hold the ports of the sandbox, and Podman
knows nothing of them: each later start meets "address already in use".
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tryitnow.agent.sandbox.names import PREFIX

logger = logging.getLogger(__name__)

_PROC = Path("/proc")


@dataclass(frozen=True)
class Conmon:
    """The process that Podman starts beside each container of ours."""

    pid: int
    container_id: str
    name: str
    """Name of the container when it was started."""


def find_conmons(proc: Path = _PROC) -> list[Conmon]:
    """Return the conmon processes of all containers of ours. Blocking.

    Those of another machine that runs within this one, as the nodes of a lab do, are not ours:
    they are in a PID namespace of their own.
    """
    found = []
    own = _pid_namespace(proc / "self")
    for entry in proc.iterdir():
        if entry.name.isdigit() and _pid_namespace(entry) != own:
            continue
        conmon = _read(entry) if entry.name.isdigit() else None
        if conmon is not None:
            found.append(conmon)
    return found


def _pid_namespace(process: Path) -> str | None:
    try:
        return os.readlink(process / "ns/pid")  # noqa: PTH115 - it is no path
    except OSError:
        return None  # it ended meanwhile


def _read(process: Path) -> Conmon | None:
    try:
        words = [os.fsdecode(word) for word in (process / "cmdline").read_bytes().split(b"\0")]
    except OSError:
        return None  # it ended meanwhile
    if not words or os.path.basename(words[0]) != "conmon":  # noqa: PTH119 - it is no path of ours
        return None
    # Podman's own order (libpod/oci_conmon_common.go): -c ID -u ID … -n NAME.
    values = dict(itertools.pairwise(words))
    name, container_id = values.get("-n", ""), values.get("-c", "")
    if not name.startswith(PREFIX) or not container_id:
        return None
    return Conmon(int(process.name), container_id, name)


def end_conmon(conmon: Conmon, proc: Path = _PROC) -> None:
    """End a conmon and the runtime that it started. Blocking."""
    if _read(proc / str(conmon.pid)) != conmon:
        return  # it ended, and its number may be another process's
    logger.warning("ending process %d, which a killed Podman left of %s", conmon.pid, conmon.name)
    for pid in [*_children(conmon.pid, proc), conmon.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _children(pid: int, proc: Path) -> Iterator[int]:
    try:
        text = (proc / str(pid) / "task" / str(pid) / "children").read_text()
    except OSError:
        return
    for child in text.split():
        yield from _children(int(child), proc)
        yield int(child)
