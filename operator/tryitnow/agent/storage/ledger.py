"""Books of what is promised and not yet used: memory and disk of this node.

Two restores that look at the free memory at the same time both find it free. So each reserves its
part first, and what is left for the next is the free part less all reservations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from tryitnow.agent.errors import NodeShortError


class Ledger:
    """Reservations of one resource, in bytes.

    A reservation ends when the resource itself shows the use: a restored process has its memory, an
    unpacked file its blocks.
    """

    def __init__(self, limit: str, what: str, free: Callable[[], int], reserve_bytes: int) -> None:
        """Make a ledger.

        Args:
            limit: The limit's word (``tryitnow.api.limits``).
            what: Name of the resource in messages, such as "memory".
            free: Tells how many bytes are free now.
            reserve_bytes: What must always stay free.

        """
        self._limit = limit
        self._what = what
        self._free = free
        self._reserve_bytes = reserve_bytes
        self._reserved = 0

    @property
    def unpromised_bytes(self) -> int:
        """What is free and not promised, the reserve included."""
        return max(0, self._free() - self._reserved)

    @property
    def available_bytes(self) -> int:
        """What can be promised; negative when the reserve is touched."""
        return self._free() - self._reserve_bytes - self._reserved

    @property
    def reserved_bytes(self) -> int:
        """What is promised."""
        return self._reserved

    @contextlib.contextmanager
    def reserved(self, size_bytes: int, purpose: str) -> Iterator[None]:
        """Reserve for the length of a block.

        Raises:
            NodeShortError: there is not enough; the message has the numbers.

        """
        available = self.available_bytes
        if size_bytes > available:
            msg = (
                f"{purpose} needs {size_bytes >> 20} MiB of {self._what}; "
                f"{max(available, 0) >> 20} MiB are free beyond the node's reserve of "
                f"{self._reserve_bytes >> 20} MiB"
            )
            raise NodeShortError(self._limit, msg)
        with self.counted(size_bytes):
            yield

    @contextlib.contextmanager
    def counted(self, size_bytes: int) -> Iterator[None]:
        """Count a use for the length of a block, whether there is room or not.

        For demos: the controller has given them the room already.
        """
        self._reserved += size_bytes
        try:
            yield
        finally:
            self._reserved -= size_bytes
