"""Counts and times each call to Podman."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tryitnow.metrics.instruments import Metrics
from tryitnow.metrics.node import PODMAN_CALL_DURATION, PODMAN_CALL_ERRORS
from tryitnow.podman.errors import PodmanFailure


@contextmanager
def instrumented(metrics: Metrics, call: Callable[..., Any]) -> Iterator[None]:
    """Time a call while the block runs, and count its failure."""
    operation = operation_of(call)
    began = time.monotonic()
    try:
        yield
    except PodmanFailure as error:
        kind = type(error).__name__
        metrics.count(PODMAN_CALL_ERRORS, operation=operation, error=kind)
        raise
    finally:
        metrics.observe(PODMAN_CALL_DURATION, time.monotonic() - began, operation=operation)


def operation_of(call: Callable[..., Any]) -> str:
    """Return the name of the client's method that a call was written in.

    It comes from Python's own name for the call, ``Podman.pause.<locals>.call``: no method can be
    counted under another's name.
    """
    return call.__qualname__.partition(".<locals>")[0].rpartition(".")[2]
