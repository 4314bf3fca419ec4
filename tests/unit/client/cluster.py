"""An operator, and an API server, that answer each demo in one word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.unit.builders import make_condition
from tests.unit.fakes import FakeKubernetes
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key, Resource
from tryitnow.kubernetes.errors import KubernetesError

READY = {
    "phase": "Ready",
    "url": "http://node-a:20000",
    "nodeName": "node-a",
    "startedBy": "Warm",
    "conditions": [make_condition("Ready").to_api()],
}


def answer(kubernetes: FakeKubernetes, status: dict[str, Any]) -> None:
    """Have the operator answer each new demo with this status, once."""
    answered: set[Key] = set()
    tasks: list[asyncio.Task[DemoInstance]] = []

    def respond(resource: Resource) -> None:
        if isinstance(resource, DemoInstance) and resource.key not in answered:
            answered.add(resource.key)
            loop = asyncio.get_running_loop()
            tasks.append(loop.create_task(kubernetes.patch_status(resource, status)))

    kubernetes.on_write = respond


def failing(type_: str, reason: str) -> dict[str, Any]:
    """The status of a demo with a condition that says why it is not ready."""
    condition = make_condition(type_, holds=type_ == "Stalled", reason=reason, message="look here")
    return {"conditions": [condition.to_api()]}


def refuse(error: KubernetesError) -> Callable[..., Any]:
    """A request that is always refused."""

    async def call(*_: Any, **__: Any) -> None:
        raise error

    return call
