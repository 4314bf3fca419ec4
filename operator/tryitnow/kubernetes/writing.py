"""Writing objects of our kinds.

Every write names the object by its UID and is refused for a namesake: an object of the same name
that was made after ours had been deleted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from kubernetes.aio.utils.retry import retry_on_conflict

from tryitnow.api.meta import API_VERSION, NODE_FINALIZER, ObjectMeta, Resource, stored
from tryitnow.kubernetes.errors import ConflictError, NamesakeError, NotFoundError, RefusedError
from tryitnow.kubernetes.merge import merge_patch
from tryitnow.kubernetes.objects import AnyObject, model_of, read
from tryitnow.kubernetes.reading import Reading
from tryitnow.printable import all_printable

R = TypeVar("R", bound=Resource)


class Writing(Reading):
    """Writes to objects of our kinds."""

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
            RefusedError: it is invalid, or a quota or a policy forbids it.

        """
        key = Resource.key_of(body["metadata"])
        made = await self._request(
            "create",
            "POST",
            model,
            key,
            query={"fieldValidation": "Strict"} if refuse_unknown else None,
            body={"apiVersion": API_VERSION, "kind": model.kind_name, **body},
        )
        return read(model, made)

    async def patch(self, resource: R, change: dict[str, Any]) -> R:
        """Change metadata or spec of an object by a merge patch.

        Raises:
            NotFoundError: it is gone.
            RefusedError: the change is invalid or forbidden.

        """
        return await self._patch(resource, change)

    async def _patch(
        self,
        resource: R,
        change: dict[str, Any],
        *,
        subresource: str = "",
        version: str = "",
    ) -> R:
        """Apply a merge patch to this very object, and to this very version where one is given.

        Raises:
            NamesakeError: it is gone, and another object has its name.
            ConflictError: it is another version by now.

        """
        metadata = {**change.get("metadata", {}), "uid": resource.metadata.uid}
        if version:
            metadata["resourceVersion"] = version
        what = f"patch {subresource} of" if subresource else "patch"
        try:
            written = await self._request(
                what,
                "PATCH",
                type(resource),
                resource.key,
                subresource=subresource,
                body={**change, "metadata": metadata},
            )
        except RefusedError as error:
            if "metadata.uid" in error.fields:
                raise _namesake(resource) from error
            raise
        return read(type(resource), written)

    async def patch_status(
        self, before: R, status: dict[str, Any], *, only_if_unchanged: bool = False
    ) -> R:
        """Bring an object's status to ``status``; writes only fields that differ, or nothing.

        Args:
            before: The object as last seen.
            status: The whole status as it shall be.
            only_if_unchanged: Refuse when anything about the object changed since.

        Raises:
            ConflictError: it changed since, and ``only_if_unchanged`` was asked for.
            NotFoundError: it is gone.
            RefusedError: the status is invalid or forbidden.

        """
        change = merge_patch(stored(before).get("status", {}), all_printable(status))
        return await self._write_status(before, change, only_if_unchanged=only_if_unchanged)

    async def patch_status_fields(self, before: R, fields: dict[str, Any]) -> R:
        """Change some fields of an object's status; None removes one.

        For a writer beside another one: all other fields stay as that one writes them, also where
        the object was last seen before it did.

        Raises:
            NotFoundError: it is gone.

        """
        known = stored(before).get("status", {})
        shown = {name: all_printable(value) for name, value in fields.items()}
        change = {name: value for name, value in shown.items() if known.get(name) != value}
        return await self._write_status(before, change)

    async def _write_status(
        self, before: R, change: dict[str, Any], *, only_if_unchanged: bool = False
    ) -> R:
        if not change:
            return before
        # For the status of a custom resource the API server takes all metadata from the object
        # that it has, and so would write into a namesake whatever UID the patch names. It does
        # look at the version before; and a version belongs to one object.
        written = self._patching(before, lambda _: {"status": change}, subresource="status")
        return await (written() if only_if_unchanged else retry_on_conflict(written))

    def _patching(
        self,
        resource: R,
        change: Callable[[ObjectMeta], dict[str, Any]],
        *,
        subresource: str = "",
    ) -> Callable[[], Awaitable[R]]:
        """Return a function that applies a change to the newest version of this object."""
        newest = resource.metadata

        async def patch() -> R:
            nonlocal newest
            try:
                return await self._patch(
                    resource,
                    change(newest),
                    subresource=subresource,
                    version=newest.resource_version,
                )
            except ConflictError:
                newest = await self._newest(resource)
                raise

        return patch

    async def _newest(self, object_: AnyObject) -> ObjectMeta:
        """Return the present metadata of this very object.

        Raises:
            NotFoundError: it is gone.

        """
        found = await self._request("get", "GET", model_of(object_), object_.key)
        metadata = ObjectMeta.model_validate(found["metadata"])
        if metadata.uid != object_.metadata.uid:
            raise _namesake(object_)
        return metadata

    async def delete(self, object_: AnyObject, *, only_if_unchanged: bool = False) -> bool:
        """Delete this very object; returns False when it is gone already.

        Args:
            object_: The object as last seen.
            only_if_unchanged: Refuse when anything about the object changed since.

        Raises:
            ConflictError: it changed since, and ``only_if_unchanged`` was asked for.

        """
        preconditions = {"uid": object_.metadata.uid}
        if only_if_unchanged:
            preconditions["resourceVersion"] = object_.metadata.resource_version
        options = {"preconditions": preconditions, "propagationPolicy": "Background"}
        return await self._unless_gone("delete", "DELETE", object_, options)

    async def add_finalizer(self, resource: R) -> R:
        """Keep the object until its node has removed everything that it holds for it.

        Raises:
            NotFoundError: it is gone.
            ConflictError: it changes faster than it can be written.

        """
        if resource.has_finalizer:
            return resource

        def added(newest: ObjectMeta) -> dict[str, Any]:
            others = [f for f in newest.finalizers if f != NODE_FINALIZER]
            return {"metadata": {"finalizers": [*others, NODE_FINALIZER]}}

        # A merge patch replaces the list: the version keeps entries of others.
        return await retry_on_conflict(self._patching(resource, added))

    async def remove_finalizer(self, object_: AnyObject, finalizer: str = NODE_FINALIZER) -> None:
        """Let the object go, also one that cannot be read; fine when it is gone already.

        Raises:
            ConflictError: it changed since it was last seen.

        """
        if finalizer not in object_.metadata.finalizers:
            return
        metadata = {
            "finalizers": [f for f in object_.metadata.finalizers if f != finalizer],
            "uid": object_.metadata.uid,
            "resourceVersion": object_.metadata.resource_version,
        }
        await self._unless_gone("patch", "PATCH", object_, {"metadata": metadata})

    async def _unless_gone(
        self, what: str, method: str, object_: AnyObject, body: dict[str, Any]
    ) -> bool:
        """Make a request about this very object; returns False when it is gone already."""
        try:
            await self._request(what, method, model_of(object_), object_.key, body=body)
        except NotFoundError:
            return False
        except ConflictError:
            try:
                await self._newest(object_)
            except NotFoundError:
                return False
            raise
        return True


def _namesake(object_: AnyObject) -> NamesakeError:
    kind = model_of(object_).kind_name
    return NamesakeError(f"{kind} {object_.key} no longer exists; another object has its name now")
