"""The parts of a sandbox that a unit test has not: its namespaces.

Containers of ``FakePodman`` have none. What reaches into them is faked here, and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

import aiohttp

from tryitnow.agent.errors import FirewallError
from tryitnow.agent.mail.server import MailServer
from tryitnow.agent.sandbox.egress import EgressProblem
from tryitnow.agent.sandbox.firewall import Firewall
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.namespaces import Hosts
from tryitnow.agent.sandbox.outbound import Outbound
from tryitnow.agent.sandbox.probe import Prober, Target
from tryitnow.api.definition import Definition
from tryitnow.api.network import Mail, Network


class State(Enum):
    """How a firewall is set."""

    CLOSED = "closed"
    BLOCKED = "blocked"
    OPEN = "open"


@dataclass
class FakeFirewall(Firewall):
    """Remembers what it was told. All sandboxes of ``FakePodman`` share one process ID."""

    states: list[State] = field(default_factory=list)
    """In the order in which they were set."""

    fails: bool = False
    on_call: Callable[[], None] = lambda: None
    """Called before each change."""

    async def close(self, pid: int, *, tcp_blocked: bool = False) -> None:
        self._set(pid, State.BLOCKED if tcp_blocked else State.CLOSED)

    async def open(self, pid: int, ports: Iterable[int]) -> None:
        assert list(ports)
        self._set(pid, State.OPEN)

    async def is_open(self, pid: int) -> bool:
        assert pid
        if self.fails:
            msg = "nft: no such file"
            raise FirewallError(msg)
        return bool(self.states) and self.states[-1] is State.OPEN

    def _set(self, pid: int, state: State) -> None:
        assert pid, "a firewall is set in a sandbox that runs"
        self.on_call()
        if self.fails:
            msg = "nft: no such file"
            raise FirewallError(msg)
        self.states.append(state)


@dataclass
class FakeOutbound(Outbound):
    """Remembers for which networks sandboxes were closed. They share one process ID."""

    networks: list[Network] = field(default_factory=list)
    problems: tuple[EgressProblem, ...] = ()
    fails: bool = False

    dns_servers = ("127.0.0.1",)

    async def close(self, pid: int, network: Network) -> None:
        assert pid, "a firewall is set in a sandbox that runs"
        if self.fails:
            msg = "nft: no such file"
            raise FirewallError(msg)
        self.networks.append(network)

    def not_allowed(self, network: Network) -> EgressProblem | None:
        return self.problems[0] if network.egress and self.problems else None

    def guards(self, pid: int) -> bool:
        assert pid
        return bool(self.networks)

    def problems_of(self, network: Network) -> tuple[EgressProblem, ...]:
        return self.problems if network.egress else ()

    async def refresh(self) -> None:
        return


@dataclass
class FakeMail(MailServer):
    """Remembers whose mail is taken, and whether it is kept."""

    keeps: dict[str, bool] = field(default_factory=dict)
    fails: bool = False

    async def serve(self, name: str, tag: str, pid: int, mail: Mail, *, keeps: bool) -> None:
        assert tag
        assert pid, "mail is taken in a sandbox that runs"
        if self.fails:
            raise OSError(98, "Address already in use")
        if mail is not Mail.REFUSE:
            self.keeps[name] = keeps

    def serves(self, name: str, pid: int) -> bool:
        assert pid
        return name in self.keeps

    def hand_over(self, name: str, to: str, *, keeps: bool) -> None:
        if name in self.keeps:
            del self.keeps[name]
            self.keeps[to] = keeps

    def stop(self, name: str) -> None:
        self.keeps.pop(name, None)

    def stop_gone(self) -> None:
        return


@dataclass
class FakeHosts(Hosts):
    """Remembers names and lines of /etc/hosts."""

    names: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)
    hosts: str = ""
    """/etc/hosts of all containers."""

    has_files: bool = True
    """Whether the images have an /etc/hostname and an /etc/hosts."""

    def set_name(self, pid: int, name: str) -> None:
        assert pid
        self.names.append(name)

    def is_shared(self, pid: int, other: int) -> bool:
        return bool(pid and other)

    def write_files(self, pid: int, name: str) -> None:
        assert pid
        self._expect_files()
        self.files.append(name)

    def carry(self, pid: int, hosts: str) -> None:
        assert pid
        self._expect_files()
        self.carried.append(hosts)

    def _expect_files(self) -> None:
        if not self.has_files:
            raise FileNotFoundError(2, "No such file or directory", "hosts")

    def read(self, pid: int) -> str:
        assert pid
        return self.hosts


class FakeProber(Prober):
    """Asks from outside where the real one asks from inside."""

    @asynccontextmanager
    async def inside(
        self, definition: Definition, sandbox: Sandbox
    ) -> AsyncIterator[tuple[aiohttp.ClientSession, Target]]:
        yield self.http, self.published(definition, sandbox)

    @asynccontextmanager
    async def session_inside(self, sandbox: Sandbox) -> AsyncIterator[aiohttp.ClientSession]:
        assert sandbox.pid
        yield self.http
