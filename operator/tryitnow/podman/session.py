"""A session with Podman's socket: podman-py's own, except that it can be hung up.

podman-py leaves connections to the garbage collector, and offers no way to end a call that is
under way.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from types import TracebackType
from typing import Any, Self

from podman.api import APIClient
from podman.api.uds import UDSConnection, UDSConnectionPool, UDSSocket


class Session:
    """The connection of one call. No request is sent before the call sends one.

    Attributes:
        api: podman-py's client, for one thread.

    """

    def __init__(self, url: str) -> None:
        self.api: Any = APIClient(base_url=url)
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._is_hung_up = False
        adapter: Any = self.api.get_adapter("http://")
        self._connections = adapter.poolmanager
        pool = functools.partial(_ConnectionPool, session=self)
        self._connections.pool_classes_by_scheme = {"http": pool}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # urllib3 leaves connections to the garbage collector, which may take their sockets first.
        for key in self._connections.pools.keys():  # noqa: SIM118 - it cannot be iterated itself
            self._connections.pools[key].close()
        self.api.close()

    def hang_up(self) -> None:
        """End the call that is under way in another thread: it fails at once."""
        with self._lock:
            self._is_hung_up = True
            for connected in self._sockets:
                with contextlib.suppress(OSError):  # it is closed already
                    connected.shutdown(socket.SHUT_RDWR)

    def add(self, connected: socket.socket) -> None:
        """Remember a connection, so that it can be hung up.

        Raises:
            ConnectionAbortedError: the session is hung up already.

        """
        with self._lock:
            if self._is_hung_up:
                msg = "the call was cancelled"
                raise ConnectionAbortedError(msg)
            self._sockets.append(connected)


class _Connection(UDSConnection):
    def __init__(self, *args: Any, session: Session, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._session = session

    def connect(self) -> None:
        # podman-py keeps the socket only after it is connected: one that nobody answers at is
        # then closed by nobody. urllib3 closes what it finds here.
        self.sock = UDSSocket(self.uds)
        self.sock.settimeout(self.timeout)
        self.sock.connect()  # type: ignore[no-untyped-call]
        self._session.add(self.sock)


class _ConnectionPool(UDSConnectionPool):
    ConnectionCls: Any = _Connection
