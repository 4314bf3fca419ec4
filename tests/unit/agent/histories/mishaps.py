"""What happens around an agent by chance: to its API server, to its process and to its node."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.unit.agent.histories.machine import DISK_BYTES, MEMORY_BYTES, Machine
from tests.unit.agent.histories.people import People
from tests.unit.fakes import Backup, Running
from tryitnow.agent.sandbox.names import demo_name
from tryitnow.api.checkpoint import OnCrash
from tryitnow.kubernetes.errors import ConflictError, ForbiddenError, KubernetesError

REFUSALS: tuple[KubernetesError, ...] = (
    KubernetesError("429: too many requests"),
    ConflictError("409: the object has been modified"),
    ForbiddenError("403: a webhook denied the request"),
)

Happening = Callable[[], str | Awaitable[str | None] | None]


@dataclass
class Mishaps:
    """Each returns what it was, None when it was nothing."""

    machine: Machine
    people: People
    chance: random.Random
    backup: Backup | None = None

    def __post_init__(self) -> None:
        self.podman, self.cluster = self.machine.podman, self.machine.cluster
        self.podman.on_crash = self._one_crashes

    def _one_crashes(self, one: Running) -> None:
        for member in self.podman.members(self.podman.pod_of(one)):
            self._has_crashed(member.state.name)

    def _has_crashed(self, name: str) -> None:
        """Expect nothing more of a demo that is replaced when a container of it ends."""
        for demo in self.people.demos():
            if str(demo_name(demo)) == name and demo.status.on_crash is OnCrash.RESET:
                self.people.gives_up(demo)

    # -- the API server ----------------------------------------------------------------------------

    def api_is_away(self) -> str:
        self.cluster.is_down = True
        if self.chance.random() < 0.5:
            self.cluster.break_watches()
        return "the API server is away"

    def api_is_slow(self) -> str:
        self.cluster.seconds = self.chance.choice((0.1, 1.0, 8.0))
        return f"the API server takes {self.cluster.seconds} s"

    def api_refuses(self) -> str:
        self.cluster.error = self.chance.choice(REFUSALS)
        return f"the API server refuses: {self.cluster.error}"

    def api_is_well(self) -> str:
        self.cluster.is_down, self.cluster.seconds, self.cluster.error = False, 0.0, None
        return "the API server is well"

    def watches_break(self) -> str:
        self.cluster.break_watches()
        return "all watches break"

    def backup_is_made(self) -> str:
        self.backup = self.cluster.backup()
        return "etcd is backed up"

    def backup_is_restored(self) -> str | None:
        if self.backup is None or self.chance.random() < 0.6:
            return None
        self.cluster.restore(self.backup)
        self.backup = None
        self.people.find_cluster_restored()
        return "etcd is restored from the backup"

    # -- the node ----------------------------------------------------------------------------------

    async def agent_is_killed(self) -> str:
        assert self.machine.process is not None
        await self.machine.process.kill()
        self.machine.begin()
        return "the agent is killed and started again"

    async def agent_is_restarted(self) -> str:
        assert self.machine.process is not None
        await self.machine.process.stop()
        await self.machine.process.kill()
        self.machine.begin()
        return "the agent is stopped and started again"

    async def boot(self) -> str | None:
        if self.podman.has_lost_storage() or self.chance.random() < 0.4:
            return None
        assert self.machine.process is not None
        await self.machine.process.kill()
        for name in list(self.podman._containers):
            self._has_crashed(name)
        self.podman.boots()
        self.podman.network.foreign.clear()
        self.machine.leftovers.clear()
        self.machine.begin()
        return "the node boots"

    def rules_are_lost(self) -> str:
        self.podman.network.lose_rules()
        return "nft delete table inet netavark"

    def port_is_taken(self) -> str | None:
        free = [p for p in range(23000, 23030) if self.podman.network.holder(p) is None]
        mine = [d.status.host_port for d in self.people.demos() if d.status.host_port in free]
        port = self.chance.choice(mine or free)
        assert port is not None
        self.podman.network.foreign.add(port)
        return f"another process takes port {port}"

    def ports_are_free(self) -> str:
        held = {port for one in self.machine.leftovers for port in one.ports}
        self.podman.network.foreign &= held
        return "other processes take no port any more"

    def disk_is_full(self) -> str:
        self.machine.disk_bytes = 0
        return "the disk is full"

    def disk_has_room(self) -> str:
        self.machine.disk_bytes = DISK_BYTES
        return "the disk has room"

    def memory_is_short(self) -> str:
        self.machine.memory_bytes = 0
        return "memory is short"

    def memory_is_there(self) -> str:
        self.machine.memory_bytes = MEMORY_BYTES
        return "memory is there"

    def mark_is_lost(self) -> str | None:
        mark = self.machine.directory / "try-it-now-storage-id"
        if not mark.exists() or self.chance.random() < 0.5:
            return None
        mark.unlink()
        return "the mark of the data directory is lost"

    def software_changes(self) -> str:
        self.machine.kernel += 1
        self._is_examined()
        return f"kernel 6.{self.machine.kernel}"

    def criu_changes(self) -> str:
        self.machine.criu = self.chance.random() < 0.5
        self._is_examined()
        return f"CRIU works: {self.machine.criu}"

    def _is_examined(self) -> None:
        node = self.machine.node
        if node is not None:
            assert self.machine.process is not None
            self.machine.process.life.begin(self.machine.examine(node))

    def archive_is_damaged(self) -> str | None:
        archives = sorted((self.machine.directory / "checkpoints").glob("*.tar"))
        if not archives or self.chance.random() < 0.5:
            return None
        archive = self.chance.choice(archives)
        if self.chance.random() < 0.5:
            archive.unlink()
            return f"{archive.name} is removed"
        archive.write_bytes(b"x" + archive.read_bytes()[1:])
        return f"{archive.name} is damaged"
