"""A node in a history: its disk, its memory, its Podman, its cluster, and the agent on it."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.demos.shop import DB_READY, DROP, RENAME
from tests.unit.agent.histories.cluster import NODE, Cluster
from tests.unit.agent.histories.life import expect_alive, keep_lives
from tests.unit.agent.histories.podman import StrictPodman
from tests.unit.agent.histories.process import Process
from tests.unit.agent.histories.programs import replace_programs
from tests.unit.virtual_time import LoneLoop
from tryitnow.agent import main
from tryitnow.agent.health import Health
from tryitnow.agent.node import Node
from tryitnow.agent.sandbox import names
from tryitnow.agent.sandbox.leftovers import Conmon, Conmons
from tryitnow.agent.upkeep import heartbeat
from tryitnow.api.archive import Versions
from tryitnow.settings import AgentSettings, agent_settings

SANDBOX_BYTES = 25
"""Memory of a sandbox: the pages of ``make_export``."""

MEMORY_BYTES = 40 * SANDBOX_BYTES
DISK_BYTES = 1 << 40
_WRITES = frozenset(
    {
        "_fill_volumes", "_lay_out", "_remember", "begin", "describe", "finish", "make",
        "scratch", "write", "write_mark",
    }
)  # fmt: skip
"""What meets a full disk, of all that is done in threads."""


@dataclass(frozen=True)
class Leftover(Conmon):
    """A conmon that a killed Podman left in the middle of a start: it holds the ports of a pod."""

    ports: frozenset[int] = frozenset()


class Leftovers(Conmons):
    """All of them on a machine."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    def find(self) -> list[Conmon]:
        """Return what killed Podmans left."""
        return list(self._machine.leftovers)

    def end(self, conmon: Conmon) -> None:
        """End one of them."""
        self._machine.end_leftover(conmon)


class Machine:
    """A node, and what is on it."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        self.chance = chance
        self.directory = directory / "try-it-now"
        self.cluster = Cluster(chance)
        self.podman = StrictPodman(directory / "podman", chance)
        self.settings = _settings(directory)
        self.memory_bytes = MEMORY_BYTES
        self.disk_bytes = DISK_BYTES
        self.criu = True
        self.kernel = 1
        self.leftovers: list[Leftover] = []
        podman = self.podman
        podman.commands = {
            DB_READY: lambda _: True,
            RENAME: self._rename,
            DROP: lambda _: not podman.hooks_fail,
        }
        self.process: Process | None = None
        self._processes: list[Process] = []
        """All that there were: what is left of a dead one must not be collected meanwhile."""

    def _rename(self, container: str) -> bool:
        if not self.podman.hooks_fail:
            self.podman.inside[container].personalized = True
        return not self.podman.hooks_fail

    @property
    def node(self) -> Node | None:
        """The node as its present agent sees it."""
        return self.process.node if self.process is not None else None

    # -- what the agent finds out about it ---------------------------------------------------------

    def health(self) -> Health:
        """Return what doctor would find."""
        return Health(
            can_run=True,
            can_run_message="",
            criu_available=self.criu,
            criu_message="" if self.criu else "no criu",
            versions=Versions(kernel=f"6.{self.kernel}"),
            controllers=frozenset({"cpu", "memory", "pids"}),
        )

    def available_bytes(self) -> int:
        """Return how much memory is free."""
        used = sum(one.state.running for one in self.podman.everything().values())
        return max(0, self.memory_bytes - used * SANDBOX_BYTES)

    def is_free(self, port: int) -> bool:
        """Whether nobody listens on a port."""
        return self.podman.network.holder(port) is None

    def end_leftover(self, conmon: Conmon) -> None:
        """End a conmon that a killed Podman left."""
        leftover = next(one for one in self.leftovers if one == conmon)
        self.leftovers.remove(leftover)
        self.podman.network.foreign -= leftover.ports

    async def examine(self, node: Node) -> None:
        """Do what doctor does, in the place of ``examine_node``."""
        await asyncio.sleep(0.5)
        expect_alive()
        before, node.health.current = node.health.current, self.health()
        if node.health.current != before:
            node.checkpoints.turn_all()

    # -- its agent ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the agent."""
        self.process = Process(
            self.settings, self.cluster, self.podman, Leftovers(self), self.health, self.chance
        )
        self._processes.append(self.process)

    def in_thread(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Let a thread of the agent fail where the disk is full, and see no processes."""
        expect_alive()
        # asyncio.to_thread runs it in a copy of the context.
        name = getattr(getattr(work, "args", (None,))[0], "__name__", "")
        if self.disk_bytes <= 0 and name in _WRITES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return (lambda: SANDBOX_BYTES) if name == "_resident_bytes" else work

    def prepare(self, loop: LoneLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the agent meet this machine wherever it looks at its own."""
        keep_lives(loop)
        loop.thread_seconds = lambda: self.chance.random() * 0.02
        loop.in_thread = self.in_thread
        replace_programs(monkeypatch)
        monkeypatch.setattr("time.monotonic", loop.time)
        monkeypatch.setattr(
            secrets, "token_hex", lambda size=8: f"{self.chance.getrandbits(8 * size):0{2 * size}x}"
        )
        monkeypatch.setattr(names, "secrets", secrets)
        monkeypatch.setattr(main, "available_memory_bytes", self.available_bytes)
        monkeypatch.setattr(heartbeat, "available_memory_bytes", self.available_bytes)
        monkeypatch.setattr(main, "free_bytes", lambda _: self.disk_bytes)
        monkeypatch.setattr(main, "nobody_listens", self.is_free)
        monkeypatch.setattr(heartbeat, "examine_node", self.examine)


def _settings(directory: Path) -> AgentSettings:
    return agent_settings(
        {
            "NODE_NAME": NODE,
            "NODE_ADDRESS": "127.0.0.1",
            "CHECKPOINT_PATH": str(directory / "try-it-now" / "checkpoints"),
            "PORT_RANGE": "23000-23029",
            "MAX_INSTANCES": "12",
            "MEMORY_RESERVE_MIB": "0",
            "DISK_RESERVE": "0",
            "ORPHAN_GRACE": "1m",
            "TRASH_RETENTION": "2m",
        }
    )
