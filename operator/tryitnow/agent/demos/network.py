"""Podman's rules for published ports: noticed when they are lost, and set again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from tryitnow.commands import run
from tryitnow.podman.client import Podman
from tryitnow.podman.errors import PodmanError, PodmanUnreachableError

logger = logging.getLogger(__name__)

TABLE = "netavark"
"""The table of nftables with the rules of all published ports (netavark's nftables driver)."""

PAUSE_SECONDS = 20.0
"""Between two repairs: one sets the rules of all sandboxes."""

_SECONDS = 10.0


async def nft_tables() -> str | None:
    """Return what ``nft list tables`` says on the node; None where it cannot be asked."""
    try:
        ended = await run("nft", "list", "tables", seconds=_SECONDS)
    except OSError:
        return None  # it is missing, as doctor says, or took too long
    return ended.output if ended.status == 0 else None


class NetworkRepair:
    """Sets Podman's rules again."""

    def __init__(
        self,
        podman: Podman,
        list_tables: Callable[[], Awaitable[str | None]] = nft_tables,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know of no repair yet.

        Args:
            podman: Podman of this node.
            list_tables: Lists the node's tables, as ``nft_tables`` does.
            clock: Counts seconds and is never set back.

        """
        self._podman = podman
        self._list_tables = list_tables
        self._clock = clock
        self._lock = asyncio.Lock()
        self._repaired_at = float("-inf")
        self._had_table = False

    async def repair(self) -> bool:
        """Have Podman set the rules of all sandboxes again; return whether it did.

        Not more often than every ``PAUSE_SECONDS``.
        """
        async with self._lock:
            if self._clock() - self._repaired_at < PAUSE_SECONDS:
                return False
            self._repaired_at = self._clock()
            logger.warning("setting the rules of Podman's network again")
            try:
                await self._podman.reload_network()
            except (PodmanError, PodmanUnreachableError) as error:
                logger.error("the rules of Podman's network cannot be set: %s", error)
                return False
            return True

    async def resync(self) -> None:
        """Set the rules again if their table is gone."""
        listed = await self._list_tables()
        if listed is None:
            return
        if TABLE in listed.split():
            self._had_table = True
        elif self._had_table:
            await self.repair()
