"""Our use of Kopf: as the watcher that reports changes.

Kopf's own persistence (annotations on the objects), finalizers and retries are not used: our
handlers are ``on.event`` only, state lives in each object's status, retries in the work queue.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import kopf

from tryitnow.api.meta import Resource
from tryitnow.backoff import Pauses
from tryitnow.kubernetes.store import Store
from tryitnow.workqueue import WorkQueue


def new_registry() -> kopf.OperatorRegistry:
    """Return a registry for a program that only watches."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return await asyncio.to_thread(kopf.login_via_client, **kwargs)

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        _configure(settings)

    return registry


_RECONNECT = Pauses(first=timedelta(seconds=1), last=timedelta(seconds=8))
"""With jitter: the agents of a thousand nodes lose the API server in the same moment."""


class ReconnectPauses:
    """Pauses between tries to reach an API server that is away.

    Kopf gives up after 54 s by default, and would take what is being built or started along. Each
    use begins anew, as with a list.
    """

    def __iter__(self) -> Iterator[float]:
        return (_RECONNECT.after(failures).total_seconds() for failures in itertools.count(1))


def _configure(settings: kopf.OperatorSettings) -> None:
    # Events are posted by KubernetesApi.event, with our component's name on them.
    settings.posting.enabled = False
    # Our CRDs are installed with us; watching all CRDs and namespaces would need more rights.
    settings.scanning.disabled = True
    # Kopf's peering elects nobody (election.py says why): who watches is decided before.
    settings.peering.standalone = True
    # A dead connection is noticed after this time; 70 s is Kopf's default for quiet clusters.
    settings.watching.inactivity_timeout = 70
    settings.watching.reconnect_backoff = 0.1
    settings.networking.error_backoffs = ReconnectPauses()


def ingest(event: kopf.RawEvent, store: Store[Any], queue: WorkQueue | None) -> None:
    """Feed one watch event into the store of its kind, and have its object looked at.

    Work that a deletion makes pointless is interrupted. That an object is being deleted is read
    from its metadata alone, so one that does not fit our model can be deleted as well.
    """
    metadata = event["object"]["metadata"]
    key = Resource.key_of(metadata)
    known = store.get(key) or store.unreadable(key)
    was_deleting = known is not None and known.is_deleting
    if event["type"] == "DELETED":
        store.forget(key, metadata["uid"])
        if queue is None:
            return
        if was_deleting:
            # What is being done is its removal, which may have a last step to do.
            queue.add(key)
        else:
            queue.interrupt(key)
        return
    is_readable = store.ingest(event["object"]) is not None
    is_deleting = metadata.get("deletionTimestamp") is not None
    if queue is None or not (is_readable or is_deleting):
        return
    if is_deleting and known is not None and not was_deleting:
        queue.interrupt(key)
    else:
        queue.add(key)


async def watch(registry: kopf.OperatorRegistry, stop: asyncio.Event | None = None) -> None:
    """Run Kopf until the process is asked to stop (SIGTERM, SIGINT), or ``stop`` is set."""
    await kopf.operator(
        registry=registry,
        clusterwide=True,
        standalone=True,
        stop_flag=stop,
        # For the peering that is off. Without it Kopf asks for the name of the user, and a
        # container's user may have none.
        identity=os.uname().nodename,  # type: ignore[arg-type] # its NewType is not exported
    )
