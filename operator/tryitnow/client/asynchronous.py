"""The client for asyncio: all others are made of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, StartPolicy
from tryitnow.api.meta import Key
from tryitnow.background import uncancelled
from tryitnow.client.errors import ClusterUnreachableError, DemoFailedError, DemoTimeoutError
from tryitnow.client.request import DemoRequest, as_duration
from tryitnow.client.running import Demo
from tryitnow.client.starting import Observer, create, translate_errors, unobserved, wait_ready
from tryitnow.kubernetes.access import find_access
from tryitnow.kubernetes.client import KubernetesApi, connect
from tryitnow.kubernetes.errors import KubernetesError, NoClusterError
from tryitnow.kubernetes.objects import UnreadableObjectError

TIMEOUT = timedelta(minutes=5)
"""How long a demo may take: a cold start may take as long (spec.readiness.timeout's default)."""


class AsyncClient:
    """Demos of one namespace: ``async with AsyncClient() as client: …``."""

    def __init__(self, *, namespace: str | None = None, context: str | None = None) -> None:
        """Say which namespace and which context of the kubeconfig.

        Args:
            namespace: By default that of the kubeconfig's context or, in a Pod, the Pod's own.
            context: By default the kubeconfig's current one.

        """
        self._namespace = namespace
        self._context = context
        self._open = AsyncExitStack()
        self._kubernetes: KubernetesApi | None = None

    async def __aenter__(self) -> Self:
        try:
            access = await find_access(self._context)
        except NoClusterError as error:
            raise ClusterUnreachableError(str(error)) from error
        self._namespace = self._namespace or access.namespace
        opening = connect("client", access=access)
        self._kubernetes = await self._open.enter_async_context(opening)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kubernetes = None
        await self._open.aclose()

    @property
    def namespace(self) -> str:
        """The namespace that it speaks of; known once it is open."""
        return self._namespace or ""

    @property
    def kubernetes(self) -> KubernetesApi:
        """The API server behind it."""
        if self._kubernetes is None:
            msg = "the client is not open; use it as `async with AsyncClient() as client:`"
            raise RuntimeError(msg)
        return self._kubernetes

    @asynccontextmanager
    async def demo(
        self,
        checkpoint: str,
        *,
        name: str | None = None,
        ttl: str | timedelta | None = None,
        host: str | None = None,
        parameters: Mapping[str, str] | None = None,
        start: StartPolicy | None = None,
        timeout: str | timedelta = TIMEOUT,
    ) -> AsyncIterator[Demo]:
        """Have a demo for the length of a block; it is deleted at its end.

        Raises:
            DemoError: one of its kinds (tryitnow.client.errors); nothing is left behind.

        """
        running = await self.start(
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
            # Whole, however often the caller is cancelled (anyio does so at each step).
            await uncancelled(self.delete(running.instance))

    async def start(
        self,
        checkpoint: str,
        *,
        name: str | None = None,
        ttl: str | timedelta | None = None,
        host: str | None = None,
        parameters: Mapping[str, str] | None = None,
        start: StartPolicy | None = None,
        timeout: str | timedelta = TIMEOUT,
        observer: Observer = unobserved,
        keep_failed: bool = False,
    ) -> Demo:
        """Start a demo, and wait until it is ready; the caller deletes it.

        Args:
            checkpoint: Name of the Checkpoint.
            name: Name of the demo; by default a random one.
            ttl: How long it lives, such as ``10m``; by default until it is deleted.
            host: DNS name under which it will be visited.
            parameters: Values for the Checkpoint's parameters.
            start: Which ways of starting are allowed.
            timeout: How long to wait.
            observer: Called with each state of the object on the way.
            keep_failed: Keep a demo that failed or is late, for inspection. Default: delete it.

        Raises:
            DemoError: one of its kinds (tryitnow.client.errors).

        """
        request = DemoRequest(
            checkpoint=checkpoint,
            name=name,
            ttl=ttl,
            host=host,
            parameters=parameters or {},
            start=start,
        ).named()
        within = as_duration(timeout)
        try:
            instance = await create(self.kubernetes, self.namespace, request)
        except (ClusterUnreachableError, asyncio.CancelledError):
            # It may be there all the same: the answer alone did not come.
            if name is None:  # one of a name that was given may be somebody else's
                await uncancelled(self._delete_what_was_made(request))
            raise
        try:
            observer(instance)
            return await wait_ready(self.kubernetes, instance, within, observer)
        except (DemoTimeoutError, DemoFailedError):
            if not keep_failed:
                await self.delete(instance)
            raise
        except BaseException:
            # Also when the caller was cancelled (Ctrl-C): nobody else knows of it.
            await uncancelled(self.delete(instance))
            raise

    async def _delete_what_was_made(self, request: DemoRequest) -> None:
        key = Key(self.namespace, str(request.name))
        with contextlib.suppress(KubernetesError, UnreadableObjectError):
            await self.kubernetes.delete(await self.kubernetes.get(DemoInstance, key))

    async def delete(self, instance: DemoInstance) -> None:
        """Delete a demo; fine when it is gone already. Does not wait for its end."""
        with translate_errors():
            await self.kubernetes.delete(instance)

    async def demos(self) -> list[DemoInstance]:
        """Return all demos of the namespace, whatever their state."""
        with translate_errors():
            found = await self.kubernetes.list_all(DemoInstance, namespace=self.namespace)
        return found.items

    async def checkpoints(self) -> list[Checkpoint]:
        """Return the Checkpoints of the namespace: what there is to take a demo of."""
        with translate_errors():
            found = await self.kubernetes.list_all(Checkpoint, namespace=self.namespace)
        return found.items
