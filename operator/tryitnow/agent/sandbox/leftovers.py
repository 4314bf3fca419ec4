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


@dataclass(frozen=True)
class Conmon:
    """The process that Podman starts beside each container of ours."""

    pid: int
    container_id: str
    name: str
    """Name of the container when it was started."""


class Conmons:
    """The conmon processes of this node."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def find(self) -> list[Conmon]:
        """Return those of all containers of ours. Blocking.

        Those of another machine that runs within this one, as the nodes of a lab do, are not ours:
        they are in a PID namespace of their own.
        """
        own = _pid_namespace(self._proc / "self")
        pids = (int(entry.name) for entry in self._proc.iterdir() if entry.name.isdigit())
        found = (self._read(pid) for pid in pids if _pid_namespace(self._proc / str(pid)) == own)
        return [conmon for conmon in found if conmon is not None]

    def end(self, conmon: Conmon) -> None:
        """End a conmon and the runtime that it started. Blocking."""
        if self._read(conmon.pid) != conmon:
            return  # it ended, and its number may be another process's
        logger.warning(
            "ending process %d, which a killed Podman left of %s", conmon.pid, conmon.name
        )
        for pid in [*self._children(conmon.pid), conmon.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _read(self, pid: int) -> Conmon | None:
        try:
            command = (self._proc / str(pid) / "cmdline").read_bytes()
        except OSError:
            return None  # it ended meanwhile
        words = [os.fsdecode(word) for word in command.split(b"\0")]
        if not words or os.path.basename(words[0]) != "conmon":  # noqa: PTH119 - it is no path of ours
            return None
        # Podman's own order (libpod/oci_conmon_common.go): -c ID -u ID … -n NAME.
        values = dict(itertools.pairwise(words))
        name, container_id = values.get("-n", ""), values.get("-c", "")
        if "-e" in words:
            # Of a command that is run in a container (libpod/oci_conmon_exec_common.go).
            return None
        if not name.startswith(PREFIX) or not container_id:
            return None
        return Conmon(pid, container_id, name)

    def _children(self, pid: int) -> Iterator[int]:
        try:
            text = (self._proc / str(pid) / "task" / str(pid) / "children").read_text()
        except OSError:
            return
        for child in text.split():
            yield from self._children(int(child))
            yield int(child)


def _pid_namespace(process: Path) -> str | None:
    try:
        return os.readlink(process / "ns/pid")  # noqa: PTH115 - it is no path
    except OSError:
        return None  # it ended meanwhile
