"""What we last saw of a kind's objects, fed by Kopf's handlers and by our own writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from tryitnow.api.meta import Key, Resource

R = TypeVar("R", bound=Resource)


class UnreadableObjectError(ValueError):
    """An object does not fit our model; the message names the fields.

    The CRD refuses most of these; what remains was stored under another version of it.
    """


class View(Generic[R]):
    """The newest known state of each object of one kind."""

    def __init__(self, model: type[R]) -> None:
        self._model = model
        self._objects: dict[Key, R] = {}

    def observe(self, body: Mapping[str, Any]) -> R:
        """Take in an object as the API server sent it.

        Raises:
            UnreadableObjectError: it does not fit the model.

        """
        try:
            return self.take(self._model.model_validate(body))
        except ValidationError as error:
            fields = "; ".join(
                f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()
            )
            raise UnreadableObjectError(fields) from error

    def take(self, resource: R) -> R:
        """Take in an object; an older state than the known one is ignored.

        Comparing versions as numbers is sanctioned since Kubernetes 1.35 (KEP-5504) and was true
        of etcd's before. Without it, the event of our last but one write would undo the last.
        """
        known = self._objects.get(resource.key)
        if (
            known is not None
            and known.metadata.uid == resource.metadata.uid
            and int(known.metadata.resource_version or 0)
            > int(resource.metadata.resource_version or 0)
        ):
            return known
        self._objects[resource.key] = resource
        return resource

    def forget(self, key: Key, uid: str | None = None) -> None:
        """Drop an object that was deleted; a namesake with another UID stays."""
        known = self._objects.get(key)
        if known is not None and (uid is None or known.metadata.uid == uid):
            del self._objects[key]

    def replace(self, listed: list[R]) -> set[Key]:
        """Make a fresh list the truth; return what was known and is not in it."""
        present = {resource.key for resource in listed}
        gone = set(self._objects) - present
        for key in gone:
            del self._objects[key]
        for resource in listed:
            self.take(resource)
        return gone

    def get(self, key: Key) -> R | None:
        """Return the object of that name, if there is one."""
        return self._objects.get(key)

    def __iter__(self) -> Iterator[R]:
        return iter(tuple(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)
