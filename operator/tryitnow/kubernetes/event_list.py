"""Events as the cluster keeps them: the story of an object, in its order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from kubernetes.aio import client as aio

from tryitnow.api.meta import Resource
from tryitnow.kubernetes.raw import get_json


@dataclass(frozen=True)
class EventRecord:
    """One Event about an object."""

    at: datetime
    is_warning: bool
    reason: str
    note: str
    regarding: str
    """Kind and name of the object, such as ``DemoInstance/annas-demo``."""


async def events_about(api: aio.ApiClient, resource: Resource) -> list[EventRecord]:
    """Return the Events about this very object, the oldest first.

    Raises:
        KubernetesError: the API server refused or did not answer.

    """
    selector = f"regarding.uid={resource.metadata.uid}"
    return await _list(api, resource.metadata.namespace or "default", selector)


async def events_in(api: aio.ApiClient, namespace: str) -> list[EventRecord]:
    """Return all Events of a namespace ("" for all), the oldest first.

    Raises:
        KubernetesError: the API server refused or did not answer.

    """
    return await _list(api, namespace, "")


async def _list(api: aio.ApiClient, namespace: str, selector: str) -> list[EventRecord]:
    within = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    path = f"/apis/events.k8s.io/v1{within}/events"
    query = {"fieldSelector": selector} if selector else None
    found = await get_json(api, "list events", path, query=query)
    return sorted((_event(item) for item in found["items"]), key=lambda event: event.at)


def _event(item: dict[str, Any]) -> EventRecord:
    # The older core/v1 shape has its times under other names.
    at = (
        item.get("eventTime")
        or item.get("deprecatedLastTimestamp")
        or item["metadata"]["creationTimestamp"]
    )
    regarding = item.get("regarding") or {}
    return EventRecord(
        at=datetime.fromisoformat(at),
        is_warning=item.get("type") == "Warning",
        reason=item.get("reason") or "",
        note=item.get("note") or "",
        regarding=f"{regarding.get('kind', '')}/{regarding.get('name', '')}",
    )
