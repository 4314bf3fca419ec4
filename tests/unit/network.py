"""A node's network, as strict as the real one, without a socket.

A client is answered where Podman's rules lead its port to a pod, the pod's namespaces are held, its
firewall lets the client in, and a container listens. From inside, only the last two count.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.unit.sandbox import State
from tryitnow.agent.errors import FirewallError
from tryitnow.agent.sandbox.firewall import Firewall
from tryitnow.agent.sandbox.model import Sandbox
from tryitnow.agent.sandbox.namespaces import Hosts
from tryitnow.agent.sandbox.probe import LOOPBACK, REQUEST_TIMEOUT, Prober

HANGS = -1
"""A status: the application accepts the connection, and never answers."""

TABLES = "table inet filter\n"
NETAVARK = "table inet netavark\n"


class UnreachableError(aiohttp.ClientConnectionError):
    """Nobody answers there; the message says what is in the way."""


@dataclass
class Namespace:
    """The network namespace of a pod."""

    pod: str
    ports: dict[int, int]
    """Ports of the node, and those of the pod that they lead to."""

    firewall: State | None = None
    open_ports: frozenset[int] = frozenset()


@dataclass
class Network:
    """Ports, rules and namespaces of one node."""

    answer_of: Callable[[str, int], int | None]
    """Tells what a pod answers at one of its ports: a status; None where nobody listens."""

    namespaces: dict[int, Namespace] = field(default_factory=dict)
    """By the process that holds each."""

    rules: set[int] = field(default_factory=set)
    """Ports of the node that Podman's rules lead to a pod."""

    foreign: set[int] = field(default_factory=set)
    """Ports on which other processes of the node listen."""

    has_table: bool = True

    def add(self, pid: int, pod: str, ports: dict[int, int]) -> None:
        """Have the namespace of a pod that was just started."""
        self.namespaces[pid] = Namespace(pod, ports)
        self.rules |= set(ports)
        self.has_table = True

    def drop(self, pid: int) -> None:
        """Have a namespace go, with the rules that lead there."""
        gone = self.namespaces.pop(pid, None)
        self.rules -= set(gone.ports if gone is not None else ())

    def holder(self, port: int) -> str | None:
        """Return who has a port of the node; None when it is free."""
        if port in self.foreign:
            return "another process"
        found = (each.pod for each in self.namespaces.values() if port in each.ports)
        return next(found, None)

    def lose_rules(self) -> None:
        """Forget all rules, as after ``nft delete table inet netavark``."""
        self.rules.clear()
        self.has_table = False

    def set_rules(self) -> None:
        """Set all rules again, as ``podman network reload --all`` does."""
        self.rules = {port for each in self.namespaces.values() for port in each.ports}
        self.has_table = True

    def tables(self) -> str:
        """Return what ``nft list tables`` says."""
        return TABLES + NETAVARK * self.has_table

    def pod_at(self, port: int) -> str:
        """Return the pod that a client reaches at a port of the node."""
        if port in self.foreign:
            msg = "another process listens there"
            raise UnreachableError(msg)
        if port not in self.rules:
            msg = "no rule leads anywhere"
            raise UnreachableError(msg)
        for each in self.namespaces.values():
            if (inside := each.ports.get(port)) is not None:
                if each.firewall is not State.OPEN or inside not in each.open_ports:
                    msg = "the firewall lets nobody in"
                    raise UnreachableError(msg)
                return each.pod
        msg = "the pod is gone"
        raise UnreachableError(msg)

    def ask(self, host_port: int) -> int:
        """Ask as a client does; return the status."""
        pod = self.pod_at(host_port)
        [inside] = [e.ports[host_port] for e in self.namespaces.values() if host_port in e.ports]
        return self._answer(pod, inside)

    def ask_inside(self, pid: int, port: int) -> int:
        """Ask from inside a namespace."""
        space = self.namespaces.get(pid)
        if space is None:
            msg = f"process {pid} is in no sandbox any more"
            raise ProcessLookupError(3, msg)
        if space.firewall is State.BLOCKED:
            return HANGS
        return self._answer(space.pod, port)

    def _answer(self, pod: str, port: int) -> int:
        status = self.answer_of(pod, port)
        if status is None:
            msg = "nobody listens"
            raise UnreachableError(msg)
        return status


Effect = Callable[[], None]
"""Called right before anything is done; it may raise, where the caller does not live any more."""


def _nothing() -> None:
    return


class _Answer:
    """An answer; its body is empty."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.headers: dict[str, str] = {}


class _Asking:
    """``async with session.get(…)``."""

    def __init__(self, session: StrictSession, url: str, timeout: float) -> None:
        self._session, self._url, self._timeout = session, url, timeout

    async def __aenter__(self) -> _Answer:
        session = self._session
        await asyncio.sleep(session.seconds())
        session.effect()
        parts = urlsplit(self._url)
        assert parts.port is not None
        if session.pid is None:
            status = session.network.ask(parts.port)
        else:
            assert parts.hostname == LOOPBACK
            status = session.network.ask_inside(session.pid, parts.port)
        if status == HANGS:
            await asyncio.sleep(self._timeout)
            raise TimeoutError
        return _Answer(status)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return


@dataclass
class StrictSession:
    """What is asked of an ``aiohttp.ClientSession`` by probes."""

    network: Network
    pid: int | None = None
    """The namespace from inside of which it asks; None for a client."""

    seconds: Callable[[], float] = lambda: 0.001
    effect: Effect = _nothing

    def get(
        self,
        url: str,
        *,
        timeout: aiohttp.ClientTimeout | None = None,
        **_: Any,
    ) -> _Asking:
        """Ask."""
        longest = timeout.total if timeout is not None else None
        return _Asking(self, url, longest or REQUEST_TIMEOUT)


@dataclass(frozen=True)
class StrictProber(Prober):
    """Asks in the network of a test."""

    @asynccontextmanager
    async def session_inside(self, sandbox: Sandbox) -> AsyncIterator[aiohttp.ClientSession]:
        http: Any = self.http
        inside: Any = StrictSession(http.network, sandbox.pid, http.seconds, http.effect)
        yield inside


@dataclass
class StrictFirewall(Firewall):
    """Sets firewalls of namespaces that are there."""

    network: Network
    effect: Effect = _nothing
    fails: bool = False

    async def close(self, pid: int, *, tcp_blocked: bool = False) -> None:
        space = await self._of(pid)
        space.firewall = State.BLOCKED if tcp_blocked else State.CLOSED
        space.open_ports = frozenset()

    async def open(self, pid: int, ports: Iterable[int]) -> None:
        space = await self._of(pid)
        space.firewall, space.open_ports = State.OPEN, frozenset(ports)

    async def is_open(self, pid: int) -> bool:
        return (await self._of(pid)).firewall is State.OPEN

    async def _of(self, pid: int) -> Namespace:
        await asyncio.sleep(0.01)
        self.effect()
        if self.fails:
            msg = "nft: Operation not permitted"
            raise FirewallError(msg)
        space = self.network.namespaces.get(pid)
        if space is None:
            msg = f"the sandbox of process {pid} is gone"
            raise FirewallError(msg)
        return space


@dataclass
class StrictHosts(Hosts):
    """Names hosts of namespaces that are there."""

    network: Network
    names: dict[int, str] = field(default_factory=dict)

    def set_name(self, pid: int, name: str) -> None:
        self._expect(pid)
        self.names[pid] = name

    def is_shared(self, pid: int, other: int) -> bool:
        return pid == other and pid in self.network.namespaces

    def write_files(self, pid: int, name: str) -> None:  # noqa: ARG002
        self._expect(pid)

    def carry(self, pid: int, hosts: str) -> None:  # noqa: ARG002
        self._expect(pid)

    def read(self, pid: int) -> str:
        self._expect(pid)
        return ""

    def _expect(self, pid: int) -> None:
        if pid not in self.network.namespaces:
            raise ProcessLookupError(3, f"process {pid} is in no sandbox any more")
