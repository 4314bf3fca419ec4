"""Keeps two kinds of calls apart that Podman deadlocks on when they meet.

A checkpoint with an export holds the lock of its container and takes that of its pod
(``exportCheckpoint`` in libpod/container_internal_common.go). A list of pods holds the lock of each
pod and takes those of its containers (``Pod.Status`` in libpod/pod_status.go). Podman 5.8 waits for
ever then, and with it all that asks about any container. Calls about one pod do the same: nobody
makes them of a pod that is being checkpointed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum


class Kind(Enum):
    """Calls of one kind go together, those of the other wait."""

    CHECKPOINT = "checkpoint"
    LIST_OF_PODS = "list of pods"

    @property
    def other(self) -> Kind:
        """The kind that must not be under way meanwhile."""
        return Kind.CHECKPOINT if self is Kind.LIST_OF_PODS else Kind.LIST_OF_PODS


class Apart:
    """The calls of both kinds that are under way."""

    def __init__(self) -> None:
        self._under_way: Counter[Kind] = Counter()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def during(self, kind: Kind) -> AsyncIterator[None]:
        """Wait until no call of the other kind is under way, and keep those away meanwhile."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._under_way[kind.other])
            self._under_way[kind] += 1
        try:
            yield
        finally:
            self._under_way[kind] -= 1
            # Shielded: one that is cancelled here would leave the others waiting.
            await asyncio.shield(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
