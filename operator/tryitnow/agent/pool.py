"""What waits on this node for demos to come, and the one place where it is handed out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from tryitnow.agent.names import ContainerName
from tryitnow.agent.sandbox import Sandbox
from tryitnow.api.meta import Key


@dataclass(frozen=True)
class WarmCopy:
    """A thawed copy that answers and belongs to nobody yet."""

    name: ContainerName
    sandbox: Sandbox
    paused: bool


@dataclass(frozen=True)
class Slot:
    """Containers that were made ahead of time and have never run: a thaw reads pages into them."""

    name: ContainerName
    sandbox: Sandbox


class Waiting(Protocol):
    """A container that waits."""

    @property
    def name(self) -> ContainerName:
        """Its name, until it is handed out."""


W = TypeVar("W", bound=Waiting)


@dataclass
class Pool(Generic[W]):
    """Containers that wait by NodeCheckpoint, the one that waits longest first.

    Nothing in here waits for anything, so each is taken by one demo only, however many come at
    once.
    """

    changed: Callable[[Key], None] = lambda _: None
    """Called with the NodeCheckpoint whose pool has one copy less."""

    taken_at: float = float("-inf")
    """When the last copy was handed out, in monotonic seconds."""

    adopted: set[Key] = field(default_factory=set)
    """NodeCheckpoints whose containers were looked through since the agent was started."""

    _copies: dict[Key, list[W]] = field(default_factory=dict)

    def of(self, key: Key) -> tuple[W, ...]:
        """Return the copies that wait."""
        return tuple(self._copies.get(key, ()))

    def add(self, key: Key, copy: W) -> None:
        """Let a copy wait."""
        self._copies.setdefault(key, []).append(copy)

    def take(self, key: Key) -> W | None:
        """Hand out a copy, to this caller alone; None when none waits."""
        waiting = self._copies.get(key)
        if not waiting:
            return None
        copy = waiting.pop(0)
        self.taken_at = time.monotonic()
        self.changed(key)
        return copy

    def withdraw(self, key: Key, copy: W) -> bool:
        """Take this copy out; False when it was handed out meanwhile."""
        waiting = self._copies.get(key, [])
        if copy not in waiting:
            return False
        waiting.remove(copy)
        return True

    def names(self) -> set[str]:
        """Return the names of all containers that wait."""
        return {str(copy.name) for copy in self}

    def __iter__(self) -> Iterator[W]:
        return iter([copy for copies in self._copies.values() for copy in copies])

    @property
    def size(self) -> int:
        """Number of all that wait on this node."""
        return sum(map(len, self._copies.values()))
