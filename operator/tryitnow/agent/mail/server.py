"""The listening sockets for mail, in the network of each sandbox that asks for it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tryitnow.agent.mail.connections import Connections
from tryitnow.agent.mail.mailbox import Envelope, Keep, Mailbox
from tryitnow.api.network import Mail
from tryitnow.background import in_thread

ADDRESSES = ("127.25.25.25", "::1")
"""Where the sockets listen, in the network of a sandbox: loopback, which nobody outside of it
reaches. Not 127.0.0.1, where applications have their own servers."""

HOST = "mail.tryitnow.internal"
"""Name under which demos find the server, and that it gives itself. ``.internal`` is reserved for
private use."""

PLAIN_PORT = 61025
TLS_PORT = 61465
"""Beyond Linux' ephemeral ports (32768 to 60999), and no application's own: one that listens on all
addresses of a port has it to itself. Port 465 is TLS from its first byte (RFC 8314)."""

OF_SANDBOX = 4
"""Connections at once, as many as a web application has workers that wait for mail."""

MOST_CONNECTIONS = 64
"""Of all sandboxes of the node: as many mails may be in memory (``smtp.MOST_BYTES``)."""

_WAITING = 16
"""Connections that the kernel holds until they are taken."""

_HANDSHAKE_SECONDS = 10.0


@dataclass(eq=False)
class _Served:
    """A sandbox whose mail is taken."""

    name: str
    pid: int
    namespace: int
    """Inode of its network namespace: another process may get its number."""

    mailbox: Mailbox
    is_sink: bool
    keeps: bool
    """Whether it is a demo's; mail of all other sandboxes is forgotten."""

    connections: Connections
    servers: list[asyncio.Server] = field(default_factory=list)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def keep(self) -> Keep | None:
        """Return how its mail is kept; None while it is forgotten."""
        return self._add if self.is_sink and self.keeps else None

    async def _add(self, envelope: Envelope, content: bytes) -> None:
        async with self._writing:
            await in_thread(self.mailbox.add, envelope, content)


class MailServer:
    """Takes the mail of this node's sandboxes."""

    def __init__(
        self,
        volumes: Path,
        network_of: Callable[[int], AbstractContextManager[None]],
        make_tls: Callable[[], ssl.SSLContext],
        proc: Path = Path("/proc"),
    ) -> None:
        """Serve nobody yet.

        Args:
            volumes: Directory with those of each sandbox, by the tag of its pod.
            network_of: Brings the thread into the network of a process.
            make_tls: Makes a certificate that no client trusts, and its TLS context.
            proc: Where processes are found.

        """
        self._volumes = volumes
        self._network_of = network_of
        self._make_tls = make_tls
        self._proc = proc
        self._tls: ssl.SSLContext | None = None
        self._served: dict[str, _Served] = {}
        """By the name of the sandbox."""

        self._connections = Connections(MOST_CONNECTIONS)
        self._one_at_a_time = asyncio.Lock()

    async def serve(self, name: str, tag: str, pid: int, mail: Mail, *, keeps: bool) -> None:
        """Take the mail of a sandbox from now on; nothing where it has none.

        Args:
            name: Name of the sandbox.
            tag: That of its pod.
            pid: A process in its network namespace.
            mail: What becomes of its mail.
            keeps: Whether it is a demo's.

        Raises:
            OSError: the sandbox is gone, or something in it listens there.

        """
        if mail is Mail.REFUSE:
            return
        async with self._one_at_a_time:
            self.stop(name)
            served = _Served(
                name=name,
                pid=pid,
                namespace=self._namespace_of(pid),
                mailbox=Mailbox(self._volumes / tag),
                is_sink=mail is Mail.SINK,
                keeps=keeps,
                connections=Connections(OF_SANDBOX),
            )
            self._served[name] = served
            try:
                if self._tls is None:
                    self._tls = await in_thread(self._make_tls)
                await self._listen(served)
            except BaseException:
                self.stop(served.name)
                raise

    async def _listen(self, served: _Served) -> None:
        # Here, where the first sandbox needs it: most nodes take no mail.
        from tryitnow.agent.mail.smtp import Refusal, Session

        loop = asyncio.get_running_loop()

        def begin() -> asyncio.Protocol:
            groups = (served.connections, self._connections)
            if any(group.is_full for group in groups):
                return Refusal()
            return Session(HOST, served.keep, groups, loop)

        for sock, is_tls in await in_thread(self._sockets, served.pid):
            served.servers.append(
                await loop.create_server(
                    begin,
                    sock=sock,
                    backlog=_WAITING,
                    ssl=self._tls if is_tls else None,
                    ssl_handshake_timeout=_HANDSHAKE_SECONDS if is_tls else None,
                )
            )

    def _sockets(self, pid: int) -> list[tuple[socket.socket, bool]]:
        with contextlib.ExitStack() as opened, self._network_of(pid):
            found = []
            for address in ADDRESSES:
                for port, is_tls in ((PLAIN_PORT, False), (TLS_PORT, True)):
                    made = _listening(address, port)
                    if made is not None:
                        found.append((opened.enter_context(made), is_tls))
            opened.pop_all()
            return found

    def serves(self, name: str, pid: int) -> bool:
        """Whether the mail of a sandbox is taken."""
        served = self._served.get(name)
        return served is not None and served.pid == pid and self._is_there(served)

    def hand_over(self, name: str, to: str, *, keeps: bool) -> None:
        """Have a sandbox by another name, as a demo's from now on or not."""
        served = self._served.pop(name, None)
        if served is not None:
            served.name, served.keeps = to, keeps
            self._served[to] = served

    def stop(self, name: str) -> None:
        """Take no mail of a sandbox any more; fine when none was taken."""
        served = self._served.pop(name, None)
        if served is not None:
            for server in served.servers:
                server.close()
            served.connections.abort()

    def stop_gone(self) -> None:
        """Let go of the sandboxes that have ended: a socket holds their network."""
        for name in [name for name, served in self._served.items() if not self._is_there(served)]:
            self.stop(name)

    def close(self) -> None:
        """Take no mail any more."""
        for name in list(self._served):
            self.stop(name)

    def _is_there(self, served: _Served) -> bool:
        try:
            return self._namespace_of(served.pid) == served.namespace
        except OSError:
            return False

    def _namespace_of(self, pid: int) -> int:
        return (self._proc / str(pid) / "ns/net").stat().st_ino


def _listening(address: str, port: int) -> socket.socket | None:
    """Return a socket that listens; None where there is no IPv6.

    Raises:
        OSError: an application listens there.

    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        found = socket.socket(family, socket.SOCK_STREAM)
        try:
            # What ended holds no port (TIME_WAIT), as after a start of the agent.
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((address, port))
            found.listen(_WAITING)
            found.setblocking(False)
        except BaseException:
            found.close()
            raise
    except OSError as error:
        is_missing = error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
        if family is socket.AF_INET6 and is_missing:
            return None
        raise
    return found
