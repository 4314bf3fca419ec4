"""The warm copies of this node: who waits, and the one place where one is handed out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tryitnow.agent.names import ContainerName
from tryitnow.api.meta import Key
from tryitnow.podman.client import PortMapping


@dataclass(frozen=True)
class WarmCopy:
    """A thawed copy that answers and belongs to nobody yet."""

    name: ContainerName
    ports: tuple[PortMapping, ...]
    paused: bool


@dataclass
class Pool:
    """Warm copies by NodeCheckpoint, the one that waits longest first.

    Nothing in here waits for anything, so a copy is taken by one claim only, however many there
    are at once.
    """

    changed: Callable[[Key], None] = lambda _: None
    """Called with the NodeCheckpoint whose pool has one copy less."""

    taken_at: float = float("-inf")
    """When the last copy was handed out, in monotonic seconds."""

    adopted: set[Key] = field(default_factory=set)
    """NodeCheckpoints whose containers were looked through since the agent was started."""

    _copies: dict[Key, list[WarmCopy]] = field(default_factory=dict)

    def of(self, key: Key) -> tuple[WarmCopy, ...]:
        """Return the copies that wait."""
        return tuple(self._copies.get(key, ()))

    def add(self, key: Key, copy: WarmCopy) -> None:
        """Let a copy wait."""
        self._copies.setdefault(key, []).append(copy)

    def take(self, key: Key) -> WarmCopy | None:
        """Hand out a copy, to this caller alone; None when none waits."""
        waiting = self._copies.get(key)
        if not waiting:
            return None
        copy = waiting.pop(0)
        self.taken_at = time.monotonic()
        self.changed(key)
        return copy

    def withdraw(self, key: Key, copy: WarmCopy) -> bool:
        """Take this copy out; False when it was handed out meanwhile."""
        waiting = self._copies.get(key, [])
        if copy not in waiting:
            return False
        waiting.remove(copy)
        return True

    def names(self) -> set[str]:
        """Return the names of all containers that wait."""
        return {str(copy.name) for copies in self._copies.values() for copy in copies}

    @property
    def size(self) -> int:
        """Number of all copies that wait on this node."""
        return sum(map(len, self._copies.values()))
