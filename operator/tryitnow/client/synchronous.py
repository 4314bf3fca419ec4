"""The client for code without asyncio: the same surface, each call to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, StartPolicy
from tryitnow.client.asynchronous import TIMEOUT, AsyncClient
from tryitnow.client.running import Demo

T = TypeVar("T")


class Client:
    """Demos of one namespace. Nothing stays open between two calls."""

    def __init__(self, *, namespace: str | None = None, context: str | None = None) -> None:
        """Say which namespace and which context of the kubeconfig; defaults as AsyncClient's."""
        self._namespace = namespace
        self._context = context

    @contextmanager
    def demo(
        self,
        checkpoint: str,
        *,
        name: str | None = None,
        ttl: str | timedelta | None = None,
        host: str | None = None,
        parameters: Mapping[str, str] | None = None,
        start: StartPolicy | None = None,
        timeout: str | timedelta = TIMEOUT,
    ) -> Iterator[Demo]:
        """Have a demo for the length of a block; it is deleted at its end.

        Raises:
            DemoError: one of its kinds (tryitnow.client.errors); nothing is left behind.

        """
        running = self.start(
            checkpoint,
            name=name,
            ttl=ttl,
            host=host,
            parameters=parameters,
            start=start,
            timeout=timeout,
        )
        try:
            yield running
        finally:
            self.delete(running.instance)

    def start(
        self,
        checkpoint: str,
        *,
        name: str | None = None,
        ttl: str | timedelta | None = None,
        host: str | None = None,
        parameters: Mapping[str, str] | None = None,
        start: StartPolicy | None = None,
        timeout: str | timedelta = TIMEOUT,
    ) -> Demo:
        """Start a demo, and wait until it is ready; the caller deletes it.

        Raises:
            DemoError: one of its kinds (tryitnow.client.errors); nothing is left behind.

        """
        return self._do(
            lambda client: client.start(
                checkpoint,
                name=name,
                ttl=ttl,
                host=host,
                parameters=parameters,
                start=start,
                timeout=timeout,
            )
        )

    def delete(self, instance: DemoInstance) -> None:
        """Delete a demo; fine when it is gone already. Does not wait for its end."""
        # Also where an event loop has begun to run in this thread since (Playwright's for one):
        # nobody else would delete it.
        with ThreadPoolExecutor(1) as apart:
            apart.submit(self._do, lambda client: client.delete(instance)).result()

    def demos(self) -> list[DemoInstance]:
        """Return all demos of the namespace, whatever their state."""
        return self._do(lambda client: client.demos())

    def checkpoints(self) -> list[Checkpoint]:
        """Return the Checkpoints of the namespace: what there is to take a demo of."""
        return self._do(lambda client: client.checkpoints())

    def _do(self, call: Callable[[AsyncClient], Awaitable[T]]) -> T:
        _refuse_inside_of_a_loop()

        async def run() -> T:
            async with AsyncClient(namespace=self._namespace, context=self._context) as client:
                return await call(client)

        return asyncio.run(run())


def _refuse_inside_of_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    msg = "this would block the running event loop; use `async with demo(…)` or AsyncClient"
    raise RuntimeError(msg)
