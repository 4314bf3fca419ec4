"""Counting connections, and ending them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(eq=False)
class Connections:
    """Connections that are there at once."""

    most: int
    open: set[asyncio.Transport] = field(default_factory=set)

    @property
    def is_full(self) -> bool:
        """Whether one more is too many."""
        return len(self.open) >= self.most

    def abort(self) -> None:
        """End all of them at once."""
        for transport in list(self.open):
            transport.abort()
