"""For services and tests that want demos: ``with demo("shop", ttl="10m") as d: use(d.url)``.

The names below are the whole surface; ``docs/request-demos.md`` shows them at work. They are
loaded when they are first asked for: pytest imports this package in each run on a machine where
Try It Now is installed (its entry point names ``pytest_plugin``), and most runs want none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tryitnow.api.checkpoint import Checkpoint
    from tryitnow.api.demoinstance import DemoInstance, StartedBy, StartPolicy
    from tryitnow.client.asynchronous import AsyncClient
    from tryitnow.client.errors import (
        CheckpointNotFoundError,
        ClusterUnreachableError,
        DemoError,
        DemoExpiredError,
        DemoFailedError,
        DemoGoneError,
        DemoTimeoutError,
        InvalidRequestError,
        NameTakenError,
        NotAllowedError,
        QuotaExceededError,
    )
    from tryitnow.client.lifetime import demo
    from tryitnow.client.running import Demo
    from tryitnow.client.synchronous import Client

__all__ = [
    "AsyncClient",
    "Checkpoint",
    "CheckpointNotFoundError",
    "Client",
    "ClusterUnreachableError",
    "Demo",
    "DemoError",
    "DemoExpiredError",
    "DemoFailedError",
    "DemoGoneError",
    "DemoInstance",
    "DemoTimeoutError",
    "InvalidRequestError",
    "NameTakenError",
    "NotAllowedError",
    "QuotaExceededError",
    "StartPolicy",
    "StartedBy",
    "demo",
]

_MODULES = {
    "AsyncClient": "tryitnow.client.asynchronous",
    "Checkpoint": "tryitnow.api.checkpoint",
    "Client": "tryitnow.client.synchronous",
    "Demo": "tryitnow.client.running",
    "DemoInstance": "tryitnow.api.demoinstance",
    "StartPolicy": "tryitnow.api.demoinstance",
    "StartedBy": "tryitnow.api.demoinstance",
    "demo": "tryitnow.client.lifetime",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_MODULES.get(name, "tryitnow.client.errors")), name)
