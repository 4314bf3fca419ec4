"""Events, as `kubectl describe` shows them, written beside the work."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os

from kubernetes.aio import client as aio

from tryitnow.api.meta import API_VERSION, GROUP, now
from tryitnow.background import happens
from tryitnow.kubernetes.call import TIMEOUT_SECONDS, call_api
from tryitnow.kubernetes.errors import ConflictError, KubernetesError
from tryitnow.kubernetes.objects import AnyObject, model_of
from tryitnow.printable import printable

PAUSE_SECONDS = 0.1
"""Between what happened and its Event: a warm demo is ready after 40 ms."""

logger = logging.getLogger(__name__)


class EventRecorder:
    """Records Events in the name of one of our programs."""

    def __init__(self, api: aio.ApiClient, component: str) -> None:
        self._events = aio.EventsV1Api(api)
        self._component = component
        self._flushing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def record(self, regarding: AnyObject, reason: str, note: str, *, warning: bool) -> None:
        """Record an Event about an object, in the background."""
        task = asyncio.create_task(self._record(regarding, reason, note, warning=warning))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def flush(self) -> None:
        """Record all Events so far at once, and wait until that is done."""
        self._flushing.set()
        await asyncio.gather(*self._tasks)

    async def _wait_out(self) -> None:
        """Let the work that is told of go first: it asks the same API server, on the same cores."""
        await happens(self._flushing, within_seconds=PAUSE_SECONDS)

    async def _record(self, regarding: AnyObject, reason: str, note: str, *, warning: bool) -> None:
        at = now()
        await self._wait_out()
        # One Event per object, reason and second: a retry loop cannot flood etcd faster.
        seed = f"{regarding.metadata.uid}{reason}{at:%s}".encode()
        name = f"{regarding.metadata.name[:200]}.{hashlib.sha256(seed).hexdigest()[:16]}"
        # Events about cluster-scoped objects go to "default" (client-go's recorder does so).
        namespace = regarding.metadata.namespace or "default"
        event = aio.EventsV1Event(
            metadata=aio.V1ObjectMeta(name=name, namespace=namespace),
            action=reason,
            event_time=at,
            note=printable(note)[:1024],  # the API server's limit
            reason=reason,
            regarding=aio.V1ObjectReference(
                api_version=API_VERSION,
                kind=model_of(regarding).kind_name,
                name=regarding.metadata.name,
                namespace=regarding.metadata.namespace or None,
                uid=regarding.metadata.uid,
            ),
            reporting_controller=f"{GROUP}/{self._component}",
            reporting_instance=os.uname().nodename[:128],
            type="Warning" if warning else "Normal",
        )
        call = self._events.create_namespaced_event(
            namespace, event, _request_timeout=TIMEOUT_SECONDS
        )
        try:
            await call_api(f"record an Event about {regarding.key}", call)
        except ConflictError:
            return  # the same has been said within this second
        except KubernetesError as error:
            logger.warning("%s", error)
