"""The cluster that a command speaks to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tryitnow.cli.failures import translate_errors
from tryitnow.kubernetes.access import find_access
from tryitnow.kubernetes.client import KubernetesApi, connect

T = TypeVar("T")


def ask(context: str | None, question: Callable[[KubernetesApi, str], Awaitable[T]]) -> T:
    """Put a question to the cluster; it is given the API and the namespace of the context."""

    async def run() -> T:
        access = await find_access(context)
        async with connect("cli", access=access) as kubernetes:
            return await question(kubernetes, access.namespace)

    with translate_errors():
        return asyncio.run(run())
