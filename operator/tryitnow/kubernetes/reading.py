"""Reads: objects of our kinds, their changes and Events, Nodes, Pods, the content of Secrets."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, TypeVar
from urllib.parse import quote

from kubernetes.aio import client as aio

from tryitnow.api.meta import API_VERSION, Key, Resource
from tryitnow.kubernetes.errors import TooOldError
from tryitnow.kubernetes.event_list import EventRecord, events_about, events_in
from tryitnow.kubernetes.objects import Listing, UnreadableObject, read, read_any
from tryitnow.kubernetes.raw import JSON, get_json, request_json, watch_json

R = TypeVar("R", bound=Resource)


_MERGE_PATCH = "application/merge-patch+json"

PAGE_SIZE = 500
"""Objects in one answer to a list; client-go's pager asks for as many."""


class Reading:
    """Reads that need no classes of the client's own."""

    def __init__(self, api: aio.ApiClient) -> None:
        self._api = api
        self._listed: dict[type[Resource], int] = {}
        """Newest version that each kind was listed at."""

    async def _request(
        self,
        what: str,
        method: str,
        model: type[Resource],
        key: Key,
        *,
        subresource: str = "",
        query: dict[str, str] | None = None,
        body: object = None,
    ) -> Any:  # noqa: ANN401 - JSON
        """Make a request about one object, or about all of its kind where the key has no name."""
        name = "" if method == "POST" else key.name
        within = f"/namespaces/{quote(key.namespace, safe='')}" if key.namespace else ""
        parts = [f"{model.api_path}{within}", model.plural, quote(name, safe=""), subresource]
        about = f" {key}" if key.name else ""
        return await request_json(
            self._api,
            f"{what} {model.plural}{about}",
            method,
            "/".join(part for part in parts if part),
            query=query,
            body=body,
            content_type=_MERGE_PATCH if method == "PATCH" else JSON,
        )

    async def get(self, model: type[R], key: Key) -> R:
        """Read an object.

        Raises:
            NotFoundError: there is none of that name.
            UnreadableObjectError: it does not fit our model.
            KubernetesError: the API server refused or did not answer.

        """
        return read(model, await self._request("get", "GET", model, key))

    async def list_all(
        self, model: type[R], *, namespace: str = "", field_selector: str = ""
    ) -> Listing[R]:
        """Read all objects of a kind that the field selector picks, in one namespace or in all."""
        known = self._listed.get(model, 0)
        try:
            bodies, version = await self._list(model, namespace, field_selector, PAGE_SIZE)
        except TooOldError:
            # The pages took so long that the API server forgot the moment that they are of.
            bodies, version = await self._list(model, namespace, field_selector, 0)
        was_restored = version < known
        self._listed[model] = version if was_restored else max(version, self._listed.get(model, 0))
        found = [read_any(model, body) for body in bodies]
        return Listing(
            items=[each for each in found if not isinstance(each, UnreadableObject)],
            resource_version=version,
            # One strange object must not hide all others.
            unreadable_objects=tuple(each for each in found if isinstance(each, UnreadableObject)),
            was_restored=was_restored,
        )

    async def _list(
        self, model: type[R], namespace: str, field_selector: str, page_size: int
    ) -> tuple[list[Any], int]:
        query = {"fieldSelector": field_selector} if field_selector else {}
        if page_size:
            query["limit"] = str(page_size)
        bodies: list[Any] = []
        while True:
            page = await self._request("list", "GET", model, Key(namespace, ""), query=query)
            bodies += page["items"] or ()
            metadata = page["metadata"]
            if not (more := metadata.get("continue")):
                return bodies, int(metadata["resourceVersion"])
            query["continue"] = more

    async def node_uid(self, name: str) -> str:
        """Return the UID of a node.

        Raises:
            NotFoundError: the cluster has no such node.

        """
        path = f"/api/v1/nodes/{quote(name, safe='')}"
        node = await self._metadata(f"get node {name}", path, "PartialObjectMetadata")
        return str(node["metadata"]["uid"])

    async def data_of(self, resource: str, key: Key) -> dict[str, bytes]:
        """Return the content of a Secret or a ConfigMap (``secrets``, ``configmaps``) by key.

        Raises:
            NotFoundError: there is none of that name.
            RefusedError: we may not read it.

        """
        namespace, name = quote(key.namespace, safe=""), quote(key.name, safe="")
        path = f"/api/v1/namespaces/{namespace}/{resource}/{name}"
        found = await get_json(self._api, f"get {resource} {key}", path)
        plain: dict[str, str] = found.get("data") or {}
        if resource == "secrets":
            return {name: base64.b64decode(value) for name, value in plain.items()}
        binary: dict[str, str] = found.get("binaryData") or {}
        return {
            **{name: value.encode() for name, value in plain.items()},
            **{name: base64.b64decode(value) for name, value in binary.items()},
        }

    async def watch(
        self, model: type[R], key: Key, since: str, seconds: int
    ) -> AsyncGenerator[tuple[bool, R]]:
        """Yield each state of one object after a resource version, and whether it is still there.

        Ends after ``seconds``.

        Raises:
            TooOldError: what happened since is forgotten: get the object anew.
            KubernetesError: the API server refused, or the connection broke.

        """
        within = f"/namespaces/{quote(key.namespace, safe='')}" if model.namespaced else ""
        path = f"/apis/{API_VERSION}{within}/{model.plural}"
        query = {"fieldSelector": f"metadata.name={key.name}", "resourceVersion": since}
        what = f"watch {model.plural} {key}"
        async with aclosing(watch_json(self._api, what, path, query, seconds)) as changes:
            async for change, body in changes:
                yield change != "DELETED", read(model, body)

    async def events_about(self, resource: Resource) -> list[EventRecord]:
        """Return the Events about an object, the oldest first."""
        return await events_about(self._api, resource)

    async def events_in(self, namespace: str) -> list[EventRecord]:
        """Return the Events of a namespace ("" for all), the oldest first."""
        return await events_in(self._api, namespace)

    async def pods(self, namespace: str, *, labels: Mapping[str, str], node_name: str) -> list[str]:
        """Return the names of the Pods with these labels on a node that run."""
        query = {
            "labelSelector": ",".join(f"{name}={value}" for name, value in labels.items()),
            "fieldSelector": f"spec.nodeName={node_name},status.phase=Running",
        }
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"
        what = f"list pods of {namespace} on {node_name}"
        found = await self._metadata(what, path, "PartialObjectMetadataList", query)
        return [pod["metadata"]["name"] for pod in found["items"] or ()]

    async def server_version(self) -> str:
        """Return the version of the API server."""
        return str((await get_json(self._api, "get the version", "/version"))["gitVersion"])

    async def _metadata(
        self, what: str, path: str, kind: str, query: Mapping[str, str] | None = None
    ) -> Any:  # noqa: ANN401 - JSON
        """Read metadata alone: a Node names all its images, which nobody here asks for."""
        accept = f"application/json;as={kind};g=meta.k8s.io;v=v1"
        return await get_json(self._api, what, path, query=query, accept=accept)
