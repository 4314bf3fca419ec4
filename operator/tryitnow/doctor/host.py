"""Access to the place where Podman, its runtime and CRIU are.

The agent runs in a container, and Podman in another one of the same Pod, or on the node itself.
Whoever listens at Podman's socket tells by its process where that is: its mount namespace has the
programs and the configuration that checkpoints and restores are made with. Run by hand where Podman
runs, there is nothing to cross.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tryitnow.podman.listener import SYSTEM_PATH, listening_process

_SOCKET_SECONDS = 10.0
"""To connect to Podman's socket: immediate, unless it is overrun."""

_NOT_FOUND = 127
"""How nsenter ends when there is no such program (env(1) and shells do the same)."""


_SOCKET = "socket:["
"""What proc_pid_fd(5) writes before the inode of a socket."""

_CONMON = "conmon"
_LIBPOD = "libpod"
"""A part of the path of Podman's run-time state (containers.conf(5), `tmp_dir`), for root and for
ordinary users."""

_HOLDS_PORTS = frozenset({_CONMON, "podman"})
"""Podman holds the ports that it publishes: conmon has them while a container runs."""


@dataclass(frozen=True)
class CommandResult:
    """The result of a command."""

    status: int | None
    """Exit status; None when it did not run or did not end."""

    output: str
    """Its output on stdout and stderr; or the reason why it has no status."""

    missing: bool = False
    """There is no such program."""

    timed_out: bool = False
    """It did not end in time: nothing is known about it."""

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.status == 0


@dataclass(frozen=True)
class Process:
    """A process of the node."""

    pid: int
    name: str
    """The first 15 letters of its program's name."""

    container: str = ""
    """ID of the container that it watches for Podman, where it is a conmon."""


@dataclass(frozen=True)
class Host:
    """Where Podman runs: where its files are and how to run its programs."""

    root: Path = Path("/")
    enter: tuple[str, ...] = ()
    """Command that runs another one in Podman's namespaces; empty where this already is."""

    path: str = SYSTEM_PATH
    """Where its programs are. Not the caller's PATH: a user's has no sbin on Debian, where iptables
    is, and inside a container it is the image's."""

    pid: int = 0
    """Process that listens at Podman's socket; 0 when there is none that can be seen."""

    proc: Path = Path("/proc")
    """Where processes are seen by the IDs that they have here."""

    node_root: Path = Path("/proc/1/root")
    """Where the node's own files are: those that its first process has. From a Pod that is not in
    the node's PID namespace they are not seen."""

    def run(self, *argv: str, limit: timedelta) -> CommandResult:
        """Run a program there. Never raises: what went wrong is in the outcome."""
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
            seconds = limit.total_seconds()
            return CommandResult(
                None, f"{argv[0]} did not end within {seconds:g} s", timed_out=True
            )
        except FileNotFoundError:
            if self.enter:
                return CommandResult(
                    None, f"{self.enter[0]} is missing, so {argv[0]} cannot be reached"
                )
            return CommandResult(None, f"{argv[0]} is not installed", missing=True)
        except OSError as error:
            return CommandResult(None, f"{argv[0]} cannot be run: {error.strerror}")
        if self.enter and ended.returncode == _NOT_FOUND:
            return CommandResult(None, f"{argv[0]} is not installed", missing=True)
        return CommandResult(ended.returncode, ended.stdout.decode(errors="replace").strip())

    def read(self, path: str) -> str:
        """Return the text of a file there; empty when it cannot be read."""
        return _text(self.root / path.lstrip("/"))

    def read_of_podman(self, name: str) -> str:
        """Return a file of the listening process in /proc, else of this one; empty if unreadable.

        Such as ``net/tcp``: it tells of the namespaces of the process whose it is, where
        ``/proc/net`` tells of those of whoever reads it.
        """
        return _text(self._of_podman / name)

    def read_network(self, name: str) -> str:
        """Return a file of /proc/net as of the network that demos' ports are in; else empty.

        Podman's first thread may have stayed in the network of a container that it once set up: of
        all its threads, one counts that is in this process's network, which is the node's.
        """
        own = _link(self.proc / "self/ns/net")
        for thread in _entries(self._of_podman / "task"):
            if own and _link(thread / "ns/net") == own:
                return _text(thread / "net" / name)
        return _text(self._of_podman / "net" / name)

    def read_on_node(self, path: str) -> str:
        """Return the text of a file of the node itself; empty when it cannot be read."""
        return _text(self.node_root / path.lstrip("/"))

    def list_on_node(self, path: str) -> tuple[str, ...]:
        """Return the names in a directory of the node itself; none when it cannot be read."""
        return tuple(entry.name for entry in _entries(self.node_root / path.lstrip("/")))

    def holders_of_sockets(self, inodes: Set[str]) -> dict[str, Process]:
        """Return who has a socket open, by the socket's inode; without those that nobody has.

        Of several, as after a fork, Podman's: a container's first process has its ports, too, until
        its own program begins.
        """
        found: dict[str, Process] = {}
        open_ones = set(inodes)
        for directory in self._processes():
            if not open_ones:
                break  # a full node has tens of thousands of open files
            held = _sockets(directory / "fd") & open_ones
            if not held:
                continue
            holder = _process(directory)
            found |= dict.fromkeys(held, holder)
            if holder.name in _HOLDS_PORTS:
                open_ones -= held
        return found

    def conmons(self) -> tuple[Process, ...]:
        """Return those who watch containers for a Podman, in the network that Podman is in."""
        network = _target(self._of_podman / "ns/net")
        found = (
            _process(directory)
            for directory in self._processes()
            if _text(directory / "comm").strip() == _CONMON
            and _target(directory / "ns/net") == network
        )
        return tuple(process for process in found if process.container)

    def _processes(self) -> Iterator[Path]:
        """Return the directories of all processes that can be seen."""
        return (entry for entry in _entries(self.proc) if entry.name.isdecimal())

    @property
    def _of_podman(self) -> Path:
        return self.proc / (str(self.pid) if self.pid else "self")


def _process(directory: Path) -> Process:
    name = _text(directory / "comm").strip()
    container = _watched(_text(directory / "cmdline").split("\0")) if name == _CONMON else ""
    return Process(int(directory.name), name, container)


def _watched(arguments: list[str]) -> str:
    """Return the container of a Podman's conmon by its arguments; empty where it has none.

    CRI-O has conmons as well; they leave exit codes elsewhere. The conmon of a command in a
    container (`-e`) may stay for some minutes after it, be the container gone.
    """
    following = dict(itertools.pairwise(arguments))
    if _LIBPOD not in Path(following.get("--exit-dir", "")).parts or "-e" in arguments:
        return ""
    return following.get("-c", "")


def _entries(directory: Path) -> list[Path]:
    """Return what is in a directory; nothing when it cannot be read."""
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _link(path: Path) -> str:
    """Return where a link leads; empty when it cannot be read."""
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _sockets(directory: Path) -> set[str]:
    """Return the inodes of the sockets among a process's open files."""
    targets = (_target(file) for file in _entries(directory))
    return {
        target.removeprefix(_SOCKET).rstrip("]") for target in targets if target.startswith(_SOCKET)
    }


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # it was closed meanwhile
        return ""


def podmans_host(url: str, proc: Path = Path("/proc")) -> Host:
    """Return the place that whoever listens at a socket runs in; this one when nobody does."""
    pid = _listener(url)
    if not pid:
        return Host()
    here = Host(pid=pid, proc=proc)
    try:
        same = (proc / f"{pid}/ns/mnt").readlink() == (proc / "self/ns/mnt").readlink()
    except OSError:  # not Linux; or not root, and then a check of its own says so
        same = True
    if same:
        return here
    # Not --pid: with hostPID it is the same already, and nsenter would fork and outlive a kill.
    enter = ("nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--")
    return Host(root=proc / f"{pid}/root", enter=enter, pid=pid, proc=proc)


def _listener(url: str) -> int:
    """Return the process that listens at a UNIX socket; 0 when there is none that can be seen."""
    try:
        return listening_process(url.removeprefix("unix://"), _SOCKET_SECONDS)
    except OSError:
        return 0
