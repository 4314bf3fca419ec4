"""Knows processes by more than their number: numbers are used again, above all after a reboot."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """One process of this boot of the machine."""

    pid: int
    started: int
    boot: str

    def alive(self) -> bool:
        """Whether exactly this process still runs (a zombie does not)."""
        return self.boot == _boot() and _stat(self.pid) == (self.started, True)

    def name(self) -> str:
        """What program it is at the moment."""
        try:
            return (_PROC / str(self.pid) / "comm").read_text().strip()
        except OSError:
            return ""

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, unless the process is gone already."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def save(self, path: Path) -> None:
        """Write it down for another process to find."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(asdict(self)))
        unfinished.rename(path)


def observe(pid: int) -> Process | None:
    """The running process of that number."""
    found = _stat(pid)
    return Process(pid, found[0], _boot()) if found and found[1] else None


def load(path: Path) -> Process | None:
    """The process written down there, or None when nothing (whole) is."""
    try:
        return Process(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def only_child(pid: int) -> int | None:
    """The child of nsenter or unshare, which is the program that was asked for."""
    try:
        children = (_PROC / str(pid) / "task" / str(pid) / "children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def in_network_namespace(path: Path) -> list[Process]:
    """All processes whose network namespace is the one bound to that path."""
    try:
        wanted = path.stat()
    except OSError:
        return []
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            namespace = (entry / "ns/net").stat()
        except OSError:
            continue  # ended meanwhile, or a zombie
        same = (namespace.st_dev, namespace.st_ino) == (wanted.st_dev, wanted.st_ino)
        process = observe(int(entry.name)) if same else None
        if process:
            found.append(process)
    return found


def wait_gone(gone: list[Process], seconds: float) -> list[Process]:
    """Wait until they all ended; returns those that did not."""
    deadline = time.monotonic() + seconds
    left = gone
    while left := [process for process in left if process.alive()]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return left


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> tuple[int, bool] | None:
    """(start time in ticks since boot, whether it runs)."""
    try:
        # The name in parentheses may hold spaces and parentheses itself.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19]), fields[0] not in "ZX"
