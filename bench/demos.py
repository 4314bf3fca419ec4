"""DemoInstances, measured as their user sees them: created by the API, watched, opened."""

from __future__ import annotations

import itertools
import re
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench import BenchError
from bench.client import Found
from bench.stage import INSTANCES, Stage

WARM = "Warm"
RESTORE = "Restore"
"""How a demo is started (`status.startedBy`)."""

READY_WITHIN_S = 60.0
BURST_WITHIN_S = 180.0
GONE_WITHIN_S = 60.0

_CREATORS = 8
"""Clients at once in a burst."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Started:
    """One demo's start, in seconds from before its creation."""

    ready: float
    http: float
    criu: float | None


@dataclass(frozen=True)
class Burst:
    """A burst's end, and how its demos were started."""

    total: float
    started_by: dict[str, int]
    containers: int
    """Different URLs: none was given out twice where they are as many as the demos."""


def measure(stage: Stage, checkpoint: str, expected: str) -> Started:
    """Start one demo and remove it.

    Raises:
        BenchError: it was not started in the expected way, so it is no sample of it.

    """
    name = f"bench-{next(_numbers)}"
    began = time.perf_counter()
    create(stage, checkpoint, name)
    ready, demo = stage.instances.wait(name, READY_WITHIN_S)
    url = urllib.parse.urlsplit(demo["status"]["url"])
    opened = stage.website.wait(url.hostname or "", url.port or 80, READY_WITHIN_S)
    _remove(stage, [name])
    status = demo["status"]
    if way(status) != expected:
        why = status.get("fallbackMessage", "no reason given")
        raise BenchError(f"{name} was started by {way(status)}, not {expected}: {why}")
    return Started(ready - began, opened - began, seconds(status["timings"].get("criu")))


def burst(stage: Stage, checkpoint: str, count: int) -> Burst:
    """Start many demos at once, wait until the last is Ready, and remove them."""
    names = [f"bench-{next(_numbers)}" for _ in range(count)]
    began = time.perf_counter()
    create_all(stage, checkpoint, names)
    ended, started_by, urls = began, dict[str, int](), set[str]()
    for name in names:
        ready, demo = stage.instances.wait(name, BURST_WITHIN_S)
        ended = max(ended, ready)
        how = way(demo["status"])
        started_by[how] = started_by.get(how, 0) + 1
        urls.add(demo["status"]["url"])
    _remove(stage, names)
    return Burst(ended - began, started_by, len(urls))


def create_all(stage: Stage, checkpoint: str, names: list[str]) -> None:
    """Create demos from several clients at once."""
    with ThreadPoolExecutor(_CREATORS) as creators:
        list(creators.map(lambda name: create(stage, checkpoint, name), names))


def remove_all(stage: Stage, names: list[str]) -> None:
    """Delete demos and wait until their containers are gone."""
    _remove(stage, names)


def way(status: Found) -> str:
    """How it was started."""
    how: str = status["startedBy"]
    return how


def seconds(duration: str | None) -> float | None:
    """Read a duration of the API, such as 1m2.5s or 140ms."""
    if duration is None:
        return None
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6}
    parts = re.findall(r"([0-9.]+)(h|ms|us|µs|m|s)", duration)
    return sum(float(number) * units[unit] for number, unit in parts)


def create(stage: Stage, checkpoint: str, name: str) -> None:
    """Create a demo."""
    body = {
        "apiVersion": "tryitnow.dev/v1alpha1",
        "kind": "DemoInstance",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"checkpointRef": {"name": checkpoint}},
    }
    stage.client.create(INSTANCES, body)


def _remove(stage: Stage, names: list[str]) -> None:
    for name in names:
        stage.client.delete(f"{INSTANCES}/{name}")
    stage.instances.wait_gone(names, GONE_WITHIN_S)
