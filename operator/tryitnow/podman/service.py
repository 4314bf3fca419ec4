"""Podman's service: its facts about itself, and the actions that only its command offers.

``podman network reload`` is not in the REST API, so the command is run where the service runs: in
its namespaces, with its environment and its options.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tryitnow.commands import run
from tryitnow.podman.calls import CALL_SECONDS, Calls, ask
from tryitnow.podman.errors import (
    PodmanBusyError,
    PodmanError,
    PodmanFailure,
    PodmanUnreachableError,
)
from tryitnow.podman.limits import as_node_limit
from tryitnow.podman.listener import SYSTEM_PATH, listening_process

RELOAD_SECONDS = 120.0
"""Podman works through the containers one after the other, some 50 ms each."""

_PROC = Path("/proc")


@dataclass(frozen=True)
class ServiceInfo:
    """The facts of Podman's service about itself.

    Attributes:
        version: Its version.
        graph_root: Where it keeps images and containers.
        run_root: Where it keeps what is of no use after a boot.
        selinux: Whether SELinux is on.
        free_locks: How many more containers, pods and volumes it can have; None where it does not
            tell.
        event_logger: Where its events go; none where that is ``none``.

    """

    version: str
    graph_root: Path
    run_root: Path
    selinux: bool
    free_locks: int | None
    event_logger: str


class Service(Calls):
    """Podman's service on this node."""

    async def info(self) -> ServiceInfo:
        """Ask the service about itself. Slow: it takes the lock of each container."""

        def call(api: Any) -> ServiceInfo:  # noqa: ANN401
            text = ask(api, "/info")
            host, store = text["host"], text["store"]
            return ServiceInfo(
                version=text["version"]["Version"],
                graph_root=Path(store["graphRoot"]),
                run_root=Path(store["runRoot"]),
                selinux=bool(host["security"]["selinuxEnabled"]),
                free_locks=host.get("freeLocks"),
                event_logger=host.get("eventLogger", ""),
            )

        return await self._run_slow(call)

    async def storage_root(self) -> Path:
        """Return where Podman keeps images and containers, as Podman sees it."""
        return (await self.info()).graph_root

    async def reload_network(self, *containers: str) -> None:
        """Set the rules of Podman's network again, as after somebody flushed the node's firewall.

        Args:
            *containers: Of which containers; those that hold the namespaces of pods, for pods.
                All without any.

        Raises:
            PodmanError: it cannot be done; the message says what is missing.

        """
        process = await asyncio.to_thread(self._find)
        command = [*process.command, "network", "reload", *(containers or ("--all",))]
        await _run_beside(process, command)

    def _find(self) -> ServiceProcess:
        path = self._socket.removeprefix("unix://")
        if path == self._socket:
            msg = f"{self._socket} is no socket of this node: Podman's command cannot be run there"
            raise PodmanError(msg)
        return read_process(_listener(path))


@dataclass(frozen=True)
class ServiceProcess:
    """The process that listens at Podman's socket: Podman itself, or systemd for it.

    Attributes:
        pid: Its process ID.
        command: Podman's command with the options that the service has.
        env: Its environment.

    """

    pid: int
    command: Sequence[str]
    env: Mapping[str, str]


def _listener(path: str) -> int:
    """Return which process listens at a socket."""
    try:
        pid = listening_process(path, CALL_SECONDS)
    except OSError as error:
        msg = f"Podman does not answer at {path}: {error}"
        raise PodmanUnreachableError(msg) from error
    if not pid:
        msg = (
            f"the process that listens at {path} is not visible from here: the agent's Pod needs "
            "hostPID"
        )
        raise PodmanError(msg)
    return pid


def read_process(pid: int, proc: Path = _PROC) -> ServiceProcess:
    """Learn how a process was started.

    Raises:
        PodmanError: it has ended, or may not be looked into.

    """
    try:
        words = _strings(proc / str(pid) / "cmdline")
        pairs = (entry.partition("=") for entry in _strings(proc / str(pid) / "environ"))
        env = {name: value for name, _, value in pairs}
    except OSError as error:
        msg = f"Podman's service (process {pid}) cannot be examined: {error}"
        raise PodmanError(msg) from error
    env.setdefault("PATH", SYSTEM_PATH)
    for end in range(1, len(words) - 1):
        if words[end : end + 2] == ["system", "service"]:
            return ServiceProcess(pid, words[:end], env)
    # systemd listens for it and starts it without options.
    return ServiceProcess(pid, ["podman"], env)


def _strings(path: Path) -> list[str]:
    return [os.fsdecode(part) for part in path.read_bytes().split(b"\0") if part]


async def _run_beside(process: ServiceProcess, command: Sequence[str]) -> None:
    program = shutil.which("nsenter")
    if program is None:
        msg = "nsenter is missing (package util-linux): Podman's command cannot be run"
        raise PodmanError(msg)
    called = " ".join(command)
    try:
        ended = await run(
            program,
            f"--target={process.pid}",
            # Not its network: Podman's first thread may have stayed in that of a container, where
            # it once set something up. Both Pods' containers are in the node's network, as we are.
            "--mount",
            "--pid",
            "--",
            *command,
            seconds=RELOAD_SECONDS,
            env=process.env,
        )
    except TimeoutError as error:
        msg = f"`{called}` did not end within {RELOAD_SECONDS:g} s"
        raise PodmanBusyError(msg) from error
    if ended.status:
        raise _failed(f"`{called}` failed: {ended.complaints}")


def _failed(message: str) -> PodmanFailure:
    return as_node_limit(message) or PodmanError(message)
