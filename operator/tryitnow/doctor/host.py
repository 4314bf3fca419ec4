"""How to reach the node itself from where this program runs.

The agent runs in a container, but Podman, its runtime and CRIU are the node's, not those of the
agent's image. In a Pod with ``hostPID``, PID 1 is the node's, and its mount namespace is where
they are. Run by hand on a node, there is nothing to cross.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

# Not the caller's PATH: a user's has no sbin on Debian, where iptables is, and inside a container
# it is the image's.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_NOT_FOUND = 127
"""How nsenter ends when there is no such program (env(1) and shells do the same)."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int | None
    """Exit status; None when it did not run or did not end."""

    output: str
    """What it wrote to stdout and stderr; or why it has no status."""

    missing: bool = False
    """There is no such program."""

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.status == 0


@dataclass(frozen=True)
class Host:
    """The node: where its files are and how to run its programs."""

    root: Path = Path("/")
    enter: tuple[str, ...] = ()
    """Command that runs another one in the node's namespaces; empty where this already is."""

    path: str = _PATH

    def run(self, *argv: str, limit: timedelta) -> Outcome:
        """Run a program of the node. Never raises: what went wrong is in the outcome."""
        try:
            ended = subprocess.run(
                [*self.enter, *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limit.total_seconds(),
                env={"PATH": self.path, "LC_ALL": "C"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(None, f"{argv[0]} did not end within {limit.total_seconds():g} s")
        except FileNotFoundError:
            if self.enter:
                return Outcome(None, f"{self.enter[0]} is missing, so {argv[0]} cannot be reached")
            return Outcome(None, f"{argv[0]} is not installed", missing=True)
        except OSError as error:
            return Outcome(None, f"{argv[0]} cannot be run: {error.strerror}")
        if self.enter and ended.returncode == _NOT_FOUND:
            return Outcome(None, f"{argv[0]} is not installed", missing=True)
        return Outcome(ended.returncode, ended.stdout.decode(errors="replace").strip())

    def read(self, path: str) -> str:
        """Return the text of a file of the node; empty when it cannot be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(errors="replace")
        except OSError:
            return ""


def this_host() -> Host:
    """Return the node that this program runs on, or in a container of."""
    try:
        same = Path("/proc/1/ns/mnt").readlink() == Path("/proc/self/ns/mnt").readlink()
    except OSError:  # not Linux; or not root, and then a check of its own says so
        same = True
    if same:
        return Host()
    # Not --pid: with hostPID it is the node's already, and nsenter would fork and outlive a kill.
    enter = ("nsenter", "--target=1", "--mount", "--uts", "--ipc", "--net", "--")
    return Host(root=Path("/proc/1/root"), enter=enter)
