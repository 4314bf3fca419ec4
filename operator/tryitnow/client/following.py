"""A demo's states as they come, also across broken connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import now
from tryitnow.client.errors import DemoExpiredError, DemoGoneError
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import KubernetesError, NotFoundError, RefusedError, TooOldError

WATCH_SECONDS = 300
"""One watch; API servers end them after 5 to 10 minutes anyway (--min-request-timeout, 1800 s)."""

RECONNECT_SECONDS = 1.0
"""Before the next try at an API server that went away while we watched."""


class Following:
    """Follows one demo.

    Attributes:
        instance: Its last state.
        failure: Why nothing newer is known; None while all is well.

    """

    def __init__(self, kubernetes: KubernetesApi, instance: DemoInstance) -> None:
        self._kubernetes = kubernetes
        self.instance = instance
        self.failure: KubernetesError | None = None

    async def states(self) -> AsyncGenerator[DemoInstance]:
        """Yield each state from now on.

        Raises:
            DemoGoneError: it is being deleted, or gone.
            RefusedError: it may not be watched.

        """
        while True:
            try:
                async with aclosing(self._watched()) as states:
                    async for state in states:
                        yield state
                yield self._take(await self._kubernetes.get(DemoInstance, self.instance.key))
            except NotFoundError as error:
                raise gone(self.instance) from error
            except RefusedError:
                raise
            except KubernetesError as error:
                # A control plane that is being upgraded comes back.
                self.failure = error
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _watched(self) -> AsyncGenerator[DemoInstance]:
        seen = self.instance
        changes = self._kubernetes.watch(
            DemoInstance, seen.key, seen.metadata.resource_version, WATCH_SECONDS
        )
        try:
            async with aclosing(changes):
                async for is_there, instance in changes:
                    if not is_there:
                        raise gone(instance)
                    yield self._take(instance)
        except TooOldError:
            return  # looked at anew

    def _take(self, instance: DemoInstance) -> DemoInstance:
        if instance.metadata.uid != self.instance.metadata.uid or instance.is_deleting:
            raise gone(self.instance)
        self.instance = instance
        self.failure = None
        return instance


def gone(instance: DemoInstance) -> DemoGoneError:
    """Return why a demo is no longer there."""
    expires_at = instance.expires_at()
    if expires_at is not None and expires_at <= now():
        return DemoExpiredError(
            f"{instance.key}: its ttl ended at {expires_at:%H:%M:%S} UTC; ask for a longer one"
        )
    return DemoGoneError(f"{instance.key}: somebody deleted it")
