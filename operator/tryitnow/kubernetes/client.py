"""Reading and writing objects through ``kubernetes.aio``."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from kubernetes.aio import client as aio

from tryitnow.api.meta import (
    API_VERSION,
    GROUP,
    NODE_FINALIZER,
    VERSION,
    Key,
    Resource,
    stored,
)
from tryitnow.kubernetes.access import Access, find_access
from tryitnow.kubernetes.call import TIMEOUT_SECONDS, call_api
from tryitnow.kubernetes.errors import ConflictError, NoClusterError, NotFoundError
from tryitnow.kubernetes.events import EventRecorder
from tryitnow.kubernetes.lease import StoredLease
from tryitnow.kubernetes.measured import MeasuredApiClient
from tryitnow.kubernetes.merge import merge_patch
from tryitnow.kubernetes.reading import Reading
from tryitnow.kubernetes.view import Listing, UnreadableObjectError, read
from tryitnow.metrics.instruments import Metrics

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Resource)

_MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True)
class TokenIdentity:
    """Whom a token belongs to."""

    username: str


class KubernetesApi(Reading):
    """The API server, for our kinds and the few others that we need."""

    def __init__(self, api: aio.ApiClient, component: str) -> None:
        """Use an open client; ``connect`` makes one. ``component`` names us in Events."""
        super().__init__(api)
        self._custom = aio.CustomObjectsApi(api)
        self._authentication = aio.AuthenticationV1Api(api)
        self._recorder = EventRecorder(api, component)

    def lease(self, key: Key) -> StoredLease:
        """Return the Lease of that name, which need not exist yet."""
        return StoredLease(self._api, key)

    @staticmethod
    def _path(model: type[Resource], key: Key) -> dict[str, Any]:
        where = {
            "group": GROUP,
            "version": VERSION,
            "plural": model.plural,
            "_request_timeout": TIMEOUT_SECONDS,
        }
        return {**where, "namespace": key.namespace} if model.namespaced else where

    async def get(self, model: type[R], key: Key) -> R:
        """Read an object.

        Raises:
            NotFoundError: there is none of that name.
            UnreadableObjectError: it does not fit our model.
            KubernetesError: the API server refused or did not answer.

        """
        method = (
            self._custom.get_namespaced_custom_object
            if model.namespaced
            else self._custom.get_cluster_custom_object
        )
        call = method(name=key.name, **self._path(model, key))
        found: Any = await call_api(f"get {model.plural} {key}", call)
        return read(model, found)

    async def list_all(
        self, model: type[R], *, namespace: str = "", field_selector: str = ""
    ) -> Listing[R]:
        """Read all objects of a kind that the field selector picks, in one namespace or in all."""
        path: dict[str, Any] = {
            "group": GROUP,
            "version": VERSION,
            "plural": model.plural,
            "field_selector": field_selector,
            "_request_timeout": TIMEOUT_SECONDS,
        }
        call = (
            self._custom.list_namespaced_custom_object(namespace=namespace, **path)
            if namespace
            else self._custom.list_cluster_custom_object(**path)
        )
        found: Any = await call_api(f"list {model.plural}", call)
        items, unreadable = [], set()
        for item in found["items"]:
            try:
                items.append(read(model, item))
            except UnreadableObjectError as error:
                # One strange object must not hide all others.
                key = Resource.key_of(item["metadata"])
                unreadable.add(key)
                logger.error("%s %s cannot be read: %s", model.kind_name, key, error)
        return Listing(
            items=items,
            resource_version=int(found["metadata"]["resourceVersion"]),
            unreadable=frozenset(unreadable),
        )

    async def create(
        self, model: type[R], body: dict[str, Any], *, refuse_unknown: bool = False
    ) -> R:
        """Create an object from its spec and metadata.

        Args:
            model: The kind.
            body: Metadata and spec.
            refuse_unknown: Have the API server refuse fields that it does not know, rather than
                drop them.

        Raises:
            ConflictError: it exists already.

        """
        metadata = body["metadata"]
        key = Key(metadata.get("namespace", ""), metadata["name"])
        method = (
            self._custom.create_namespaced_custom_object
            if model.namespaced
            else self._custom.create_cluster_custom_object
        )
        whole = {"apiVersion": API_VERSION, "kind": model.kind_name, **body}
        validation = "Strict" if refuse_unknown else None
        call = method(body=whole, field_validation=validation, **self._path(model, key))
        return model.model_validate(await call_api(f"create {model.plural} {key}", call))

    async def patch(self, model: type[R], key: Key, patch: dict[str, Any]) -> R:
        """Change metadata or spec of an object by a merge patch."""
        method = (
            self._custom.patch_namespaced_custom_object
            if model.namespaced
            else self._custom.patch_cluster_custom_object
        )
        path = self._path(model, key)
        call = method(name=key.name, body=patch, _content_type=_MERGE_PATCH, **path)
        return model.model_validate(await call_api(f"patch {model.plural} {key}", call))

    async def patch_status(
        self, before: R, status: dict[str, Any], *, only_if_unchanged: bool = False
    ) -> R:
        """Bring an object's status to ``status``; writes only what differs, or nothing.

        Args:
            before: The object as last seen.
            status: The whole status as it shall be.
            only_if_unchanged: Refuse when anything about the object changed since.

        Raises:
            ConflictError: it changed since, and ``only_if_unchanged`` was asked for.
            NotFoundError: it is gone.

        """
        patch = merge_patch(stored(before).get("status", {}), status)
        return await self._write_status(before, patch, only_if_unchanged=only_if_unchanged)

    async def patch_status_fields(self, before: R, fields: dict[str, Any]) -> R:
        """Change some fields of an object's status; None removes one.

        For a writer beside another one: all other fields stay as that one writes them, also where
        the object was last seen before it did.

        Raises:
            NotFoundError: it is gone.

        """
        known = stored(before).get("status", {})
        patch = {name: value for name, value in fields.items() if known.get(name) != value}
        return await self._write_status(before, patch)

    async def _write_status(
        self, before: R, patch: dict[str, Any], *, only_if_unchanged: bool = False
    ) -> R:
        if not patch:
            return before
        model = type(before)
        body: dict[str, Any] = {"status": patch}
        if only_if_unchanged:
            body["metadata"] = {"resourceVersion": before.metadata.resource_version}
        method = (
            self._custom.patch_namespaced_custom_object_status
            if model.namespaced
            else self._custom.patch_cluster_custom_object_status
        )
        key = before.key
        path = self._path(model, key)
        call = method(name=key.name, body=body, _content_type=_MERGE_PATCH, **path)
        what = f"patch status of {model.plural} {key}"
        return model.model_validate(await call_api(what, call))

    async def delete(self, resource: Resource) -> None:
        """Delete this very object (not a namesake made later); fine when it is gone already."""
        model = type(resource)
        method = (
            self._custom.delete_namespaced_custom_object
            if model.namespaced
            else self._custom.delete_cluster_custom_object
        )
        options = aio.V1DeleteOptions(
            preconditions=aio.V1Preconditions(uid=resource.metadata.uid),
            propagation_policy="Background",
        )
        path = self._path(model, resource.key)
        call = method(name=resource.metadata.name, body=options, **path)
        try:
            await call_api(f"delete {model.plural} {resource.key}", call)
        except (NotFoundError, ConflictError):
            # Gone, or another object by now: either way ours is no longer there.
            return

    async def add_finalizer(self, resource: R) -> R:
        """Keep the object until the node has let go of what it holds for it."""
        if resource.has_finalizer:
            return resource
        finalizers = [*resource.metadata.finalizers, NODE_FINALIZER]
        return await self._patch_finalizers(resource, finalizers)

    async def remove_finalizer(self, resource: Resource) -> None:
        """Let the object go; fine when it is gone already."""
        if not resource.has_finalizer:
            return
        finalizers = [f for f in resource.metadata.finalizers if f != NODE_FINALIZER]
        try:
            await self._patch_finalizers(resource, finalizers)
        except NotFoundError:
            return

    async def _patch_finalizers(self, resource: R, finalizers: list[str]) -> R:
        # A merge patch replaces the list: the version makes sure that nobody else's entry is lost.
        version = resource.metadata.resource_version
        metadata = {"finalizers": finalizers, "resourceVersion": version}
        return await self.patch(type(resource), resource.key, {"metadata": metadata})

    async def review_token(self, token: str, audience: str) -> TokenIdentity | None:
        """Ask the API server whose token this is; None when it is no good for that audience."""
        review = aio.V1TokenReview(spec=aio.V1TokenReviewSpec(token=token, audiences=[audience]))
        call = self._authentication.create_token_review(review, _request_timeout=TIMEOUT_SECONDS)
        answer: Any = await call_api("review a token", call)
        status = answer.status
        # A server that knows nothing of audiences leaves them out: such a token proves nothing.
        if not status.authenticated or audience not in (status.audiences or []):
            return None
        return TokenIdentity(username=status.user.username)

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

    def event(self, regarding: Resource, reason: str, note: str, *, warning: bool = False) -> None:
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
    try:
        client = MeasuredApiClient(access.configuration, metrics or Metrics())
    except (OSError, ValueError) as error:
        # An SSLError is an OSError.
        msg = f"the cluster's address or certificates cannot be used: {error}"
        raise NoClusterError(msg) from error
    async with client as api:
        kubernetes = KubernetesApi(api, component)
        yield kubernetes
        await kubernetes.flush_events()
