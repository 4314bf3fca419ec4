"""What we last saw of a kind's objects, fed by Kopf's handlers and by our own writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from tryitnow.api.meta import Key, Resource

R = TypeVar("R", bound=Resource)


class UnreadableObjectError(ValueError):
    """An object does not fit our model; the message names the fields.

    The CRD refuses most of these; what remains was stored under another version of it.
    """


def read(model: type[R], body: Mapping[str, Any]) -> R:
    """Read an object as the API server sent it.

    Raises:
        UnreadableObjectError: it does not fit the model.

    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        fields = "; ".join(
            f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()
        )
        raise UnreadableObjectError(fields) from error


@dataclass(frozen=True)
class Listing(Generic[R]):
    """All objects of a kind at one moment."""

    items: list[R]
    resource_version: int
    unreadable: frozenset[Key] = frozenset()
    """Objects that are there and do not fit our model, such as those of a newer version of us."""


def _version(resource: Resource) -> int:
    # Comparing versions as numbers is sanctioned since Kubernetes 1.35 (KEP-5504), and was true
    # of etcd's before.
    return int(resource.metadata.resource_version or 0)


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
        return self.take(read(self._model, body))

    def take(self, resource: R) -> R:
        """Take in an object; an older state than the known one is ignored.

        Without that, the event of our last but one write would undo the last.
        """
        known = self._objects.get(resource.key)
        if known is not None and _version(known) > _version(resource):
            return known
        self._objects[resource.key] = resource
        return resource

    def forget(self, key: Key, uid: str | None = None) -> None:
        """Drop an object that was deleted; a namesake with another UID stays."""
        known = self._objects.get(key)
        if known is not None and (uid is None or known.metadata.uid == uid):
            del self._objects[key]

    def replace(self, listing: Listing[R]) -> set[Key]:
        """Make a fresh list the truth; return the keys that were known and are gone.

        What was seen after the list was made stays.
        """
        present = {resource.key for resource in listing.items}
        gone = {
            key
            for key, known in self._objects.items()
            if key not in present
            and key not in listing.unreadable
            and _version(known) <= listing.resource_version
        }
        for key in gone:
            del self._objects[key]
        for resource in listing.items:
            self.take(resource)
        return gone

    def get(self, key: Key) -> R | None:
        """Return the object of that name, if there is one."""
        return self._objects.get(key)

    def __iter__(self) -> Iterator[R]:
        return iter(tuple(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)
