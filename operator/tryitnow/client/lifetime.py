"""``demo``: one demo for the length of a ``with`` or an ``async with``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Any

from tryitnow.api.demoinstance import StartPolicy
from tryitnow.client.asynchronous import TIMEOUT, AsyncClient
from tryitnow.client.running import Demo
from tryitnow.client.synchronous import Client


class demo:  # noqa: N801 - used as a function: `with demo("shop") as d:`
    """A demo of a Checkpoint, deleted at the end of the block.

    ``with demo("shop", ttl="10m") as d: use(d.url)``, or the same with ``async with``.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        name: str | None = None,
        ttl: str | timedelta | None = None,
        host: str | None = None,
        parameters: Mapping[str, str] | None = None,
        start: StartPolicy | None = None,
        timeout: str | timedelta = TIMEOUT,
        namespace: str | None = None,
        context: str | None = None,
    ) -> None:
        """Say what is wanted; nothing is created before the block is entered.

        Args:
            checkpoint: Name of the Checkpoint.
            name: Name of the demo; by default a random one.
            ttl: How long it lives at most, should this program die; such as ``10m``.
            host: DNS name under which it will be visited.
            parameters: Values for the Checkpoint's parameters.
            start: Which ways of starting are allowed.
            timeout: How long to wait until it is ready.
            namespace: By default that of the kubeconfig's context or, in a Pod, the Pod's own.
            context: Context of the kubeconfig; by default its current one.

        """
        self._where: dict[str, Any] = {"namespace": namespace, "context": context}
        self._what: dict[str, Any] = {
            "checkpoint": checkpoint,
            "name": name,
            "ttl": ttl,
            "host": host,
            "parameters": parameters,
            "start": start,
            "timeout": timeout,
        }
        self._block = ExitStack()
        self._async_block = AsyncExitStack()

    def __enter__(self) -> Demo:
        return self._block.enter_context(Client(**self._where).demo(**self._what))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._block.close()

    async def __aenter__(self) -> Demo:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(AsyncClient(**self._where))
            running = await stack.enter_async_context(client.demo(**self._what))
            self._async_block = stack.pop_all()
            return running

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._async_block.aclose()
