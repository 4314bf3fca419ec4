"""Steady demand: claims at an even pace on two Checkpoints with warm pools.

Each demo is given back after a while, as by people who look at it and leave.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench import demos
from bench.client import Found
from bench.series import Series
from bench.stage import CHECKPOINTS, INSTANCES, Stage, checkpoint, is_ready, warm_ready
from bench.watcher import Watcher

POOLS = ("bench-steady-1", "bench-steady-2")
WARM_SANDBOXES = 4
SECONDS = 60
"""One claim per second on each Checkpoint."""

LIFE_S = 5.0
"""How long a demo is used at least."""

FULL_WITHIN_S = 60.0
FULL_FOR_S = 1.0
"""A pool is full again when it stays so."""

_LOOK_S = 0.05


@dataclass(frozen=True)
class Level:
    """How many warm sandboxes waited from a moment on."""

    at: float
    warm: int


@dataclass
class Levels:
    """What the watch on the Checkpoints showed, pool by pool."""

    pools: dict[str, list[Level]] = field(default_factory=lambda: {name: [] for name in POOLS})

    def note(self, found: Found, at: float) -> None:
        """Take in what a Checkpoint says."""
        levels = self.pools.get(found["metadata"]["name"])
        if levels is not None:
            levels.append(Level(at, warm_ready(found)))


def longest_empty(levels: Sequence[Level], began: float, ended: float) -> float:
    """How long at most no warm sandbox waited, in one piece, between two moments."""
    longest, empty_since = 0.0, None
    for level, after in itertools.pairwise([*levels, Level(ended, 0)]):
        if level.warm > 0:
            empty_since = None
            continue
        empty_since = level.at if empty_since is None else empty_since
        longest = max(longest, min(after.at, ended) - max(empty_since, began))
    return longest


def full_since(levels: Sequence[Level], copies: int) -> float | None:
    """Since when a pool has been full; None when it is not."""
    since = None
    for level in levels:
        if level.warm < copies:
            since = None
        elif since is None:
            since = level.at
    return since


@dataclass(frozen=True)
class Steady:
    """What steady demand met."""

    ready: Series
    started_by: dict[str, int]
    longest_empty_s: float
    full_after_s: float
    """From the end of the demand until both pools were full, and stayed so."""

    @property
    def warm_share(self) -> float:
        """The part of the claims that a warm sandbox served."""
        return self.started_by.get(demos.WARM, 0) / max(sum(self.started_by.values()), 1)


@dataclass
class _Claims:
    """Demos under way, and what became of the others."""

    stage: Stage
    begun: dict[str, float] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    ready: Series = field(default_factory=Series)
    started_by: dict[str, int] = field(default_factory=dict)

    def make(self, pool: str, number: int) -> None:
        name = f"{pool}-{number}"
        self.begun[name] = time.perf_counter()
        demos.create(self.stage, pool, name)

    def give_back(self) -> None:
        """Remove the demos that were used long enough."""
        for name, began in list(self.begun.items()):
            seen = self.stage.instances.seen(name)
            if seen is not None and time.perf_counter() - began > LIFE_S:
                self._end(name, *seen)

    def give_all_back(self) -> None:
        for name in list(self.begun):
            self._end(name, *self.stage.instances.wait(name, demos.BURST_WITHIN_S))
        self.stage.instances.wait_gone(self.ended, demos.GONE_WITHIN_S)

    def _end(self, name: str, ready: float, demo: Found) -> None:
        how = demos.way(demo["status"])
        self.ready.add(ready - self.begun.pop(name))
        self.started_by[how] = self.started_by.get(how, 0) + 1
        self.ended.append(name)
        self.stage.client.delete(f"{INSTANCES}/{name}")


def measure(stage: Stage) -> Steady:
    """Claim for a minute, and see how the pools keep up."""
    levels, claims = Levels(), _Claims(stage)
    with _pools(stage), Watcher(stage.client, CHECKPOINTS, is_ready, levels.note):
        began = time.perf_counter()
        for second in range(SECONDS):
            for pool in POOLS:
                claims.make(pool, second)
            claims.give_back()
            time.sleep(max(began + second + 1 - time.perf_counter(), 0))
        ended = time.perf_counter()
        full_after = _wait_full(levels, claims, ended) - ended
        claims.give_all_back()
    return Steady(
        ready=claims.ready,
        started_by=claims.started_by,
        longest_empty_s=max(longest_empty(found, began, ended) for found in levels.pools.values()),
        full_after_s=full_after,
    )


def _wait_full(levels: Levels, claims: _Claims, ended: float) -> float:
    """Return when both pools were full; the end of the wait where they were not."""
    while True:
        claims.give_back()
        now = time.perf_counter()
        since = [full_since(found, WARM_SANDBOXES) for found in levels.pools.values()]
        full = max((at for at in since if at is not None), default=ended)
        if None not in since and now - max(full, ended) > FULL_FOR_S:
            return max(full, ended)
        if now - ended > FULL_WITHIN_S:
            return now
        time.sleep(_LOOK_S)


@contextlib.contextmanager
def _pools(stage: Stage) -> Iterator[None]:
    """Both Checkpoints, as long as they are needed."""
    made = []
    try:
        for name in POOLS:
            made.append(name)
            checkpoint(stage, name, {"pool": {"warm": WARM_SANDBOXES}})
        for name in POOLS:
            stage.wait_full(name, WARM_SANDBOXES)
        yield
    finally:
        for name in made:
            stage.client.delete(f"{CHECKPOINTS}/{name}")
        stage.checkpoints.wait_gone(made, FULL_WITHIN_S)
