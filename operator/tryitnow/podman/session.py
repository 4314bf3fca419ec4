"""Sessions with Podman's socket: podman-py's own, except that no socket of theirs is left open."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from podman.api import APIClient
from podman.api.uds import UDSConnection, UDSConnectionPool, UDSSocket


@contextlib.contextmanager
def open_session(url: str) -> Iterator[Any]:
    """Have a session for one thread. Nothing is asked yet."""
    session: Any = APIClient(base_url=url)
    manager = session.get_adapter("http://").poolmanager
    manager.pool_classes_by_scheme = {"http": _ConnectionPool}
    try:
        yield session
    finally:
        # urllib3 leaves connections to the garbage collector, which may take their sockets first.
        for key in manager.pools.keys():  # noqa: SIM118 - it cannot be iterated over itself
            manager.pools[key].close()
        session.close()


class _Connection(UDSConnection):
    def connect(self) -> None:
        # podman-py keeps the socket only after it is connected: one that nobody answers at is
        # then closed by nobody. urllib3 closes what it finds here.
        self.sock = UDSSocket(self.uds)
        self.sock.settimeout(self.timeout)
        self.sock.connect()  # type: ignore[no-untyped-call]


class _ConnectionPool(UDSConnectionPool):
    ConnectionCls = _Connection
