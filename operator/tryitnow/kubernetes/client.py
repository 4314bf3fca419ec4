"""The API server, as our programs read it and write to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kubernetes.aio import client as aio

from tryitnow.api.meta import Key
from tryitnow.kubernetes.access import Access, find_access
from tryitnow.kubernetes.call import TIMEOUT_SECONDS, call_api
from tryitnow.kubernetes.clock import ServerClock
from tryitnow.kubernetes.errors import NoClusterError, NotFoundError
from tryitnow.kubernetes.events import EventRecorder
from tryitnow.kubernetes.instrumented import InstrumentedApiClient
from tryitnow.kubernetes.lease import StoredLease
from tryitnow.kubernetes.objects import AnyObject
from tryitnow.kubernetes.writing import Writing
from tryitnow.metrics.instruments import Metrics

NODE_CLAIM = "authentication.kubernetes.io/node-name"
"""Where the API server says which node the Pod of a token runs on (Kubernetes 1.32)."""


@dataclass(frozen=True)
class TokenIdentity:
    """Whom a token belongs to."""

    username: str
    node: str = ""
    """Node that it is bound to, by itself or by its Pod; empty where it is bound to none."""


class KubernetesApi(Writing):
    """The API server, for our kinds and the few others that we need."""

    def __init__(
        self, api: aio.ApiClient, component: str, clock: ServerClock | None = None
    ) -> None:
        """Use an open client; ``connect`` makes one. ``component`` names us in Events."""
        super().__init__(api)
        self.clock = clock or ServerClock()
        """The time of the API server."""

        self._recorder = EventRecorder(api, component)

    @property
    def server_host(self) -> str | None:
        """Host of the API server, as this client reaches it."""
        url: str = self._api.configuration.host
        return urlsplit(url).hostname

    def lease(self, key: Key) -> StoredLease:
        """Return the Lease of that name, which need not exist yet."""
        return StoredLease(self._api, key)

    async def review_token(self, token: str, audience: str) -> TokenIdentity | None:
        """Ask the API server whose token this is; None when it is no good for that audience."""
        review = aio.V1TokenReview(spec=aio.V1TokenReviewSpec(token=token, audiences=[audience]))
        authentication = aio.AuthenticationV1Api(self._api)
        call = authentication.create_token_review(review, _request_timeout=TIMEOUT_SECONDS)
        answer: Any = await call_api("review a token", call)
        status = answer.status
        # A server that knows nothing of audiences leaves them out: such a token proves nothing.
        if not status.authenticated or audience not in (status.audiences or []):
            return None
        extra: Any = status.user.extra or {}
        return TokenIdentity(status.user.username, next(iter(extra.get(NODE_CLAIM, ())), ""))

    async def delete_deployment(self, key: Key) -> None:
        """Delete a Deployment and its Pods; fine when it is gone already."""
        call = aio.AppsV1Api(self._api).delete_namespaced_deployment(
            key.name,
            key.namespace,
            propagation_policy="Foreground",
            _request_timeout=TIMEOUT_SECONDS,
        )
        try:
            await call_api(f"delete deployment {key}", call)
        except NotFoundError:
            return

    def event(self, regarding: AnyObject, reason: str, note: str, *, warning: bool = False) -> None:
        """Record an Event about an object, in the background; the work does not wait for it."""
        self._recorder.record(regarding, reason, note, warning=warning)

    async def flush_events(self) -> None:
        """Wait until all Events so far are recorded."""
        await self._recorder.flush()


@asynccontextmanager
async def connect(
    component: str, metrics: Metrics | None = None, *, access: Access | None = None
) -> AsyncIterator[KubernetesApi]:
    """Open the API server that ``access`` leads to; by default what ``find_access`` finds.

    Raises:
        NoClusterError: no cluster was found, or it cannot be used.

    """
    access = access or await find_access()
    clock = ServerClock()
    try:
        client = InstrumentedApiClient(access.configuration, metrics or Metrics(), clock)
    except (OSError, ValueError) as error:
        # An SSLError is an OSError.
        msg = f"the cluster's address or certificates cannot be used: {error}"
        raise NoClusterError(msg) from error
    async with client as api:
        kubernetes = KubernetesApi(api, component, clock)
        yield kubernetes
        await kubernetes.flush_events()
