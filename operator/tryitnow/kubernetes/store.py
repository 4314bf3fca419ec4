"""The newest known state of a kind's objects, fed by Kopf's handlers and by our own writes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from tryitnow.api.meta import Key, Resource
from tryitnow.kubernetes.objects import AnyObject, Listing, UnreadableObject, read_any

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Resource)
R_contra = TypeVar("R_contra", bound=Resource, contravariant=True)
K = TypeVar("K", bound=Hashable)
F = TypeVar("F", bound="Follower[Any]")


def _version(object_: AnyObject) -> int:
    # Comparing versions as numbers is sanctioned since Kubernetes 1.35 (KEP-5504), and was true
    # of etcd's before.
    return int(object_.metadata.resource_version or 0)


class Follower(Protocol[R_contra]):
    """Is told of each change of a store, so that it need not look through all objects."""

    def changed(self, key: Key, before: R_contra | None, after: R_contra | None) -> None:
        """Take note that an object came (no ``before``), went (no ``after``) or is another now."""


class Index(Generic[R, K]):
    """The objects of a store by something that they have in common."""

    def __init__(self, keys_of: Callable[[R], Iterable[K]]) -> None:
        """Make an index; ``keys_of`` names all entries that an object is found under."""
        self._keys_of = keys_of
        self._found: dict[K, dict[Key, R]] = {}

    def changed(self, key: Key, before: R | None, after: R | None) -> None:
        """Take note of a change of the store."""
        for entry in self._keys_of(before) if before is not None else ():
            found = self._found[entry]
            del found[key]
            if not found:
                del self._found[entry]
        for entry in self._keys_of(after) if after is not None else ():
            self._found.setdefault(entry, {})[key] = after  # type: ignore[assignment]

    def get(self, entry: K) -> list[R]:
        """Return the objects under an entry."""
        return list(self._found.get(entry, {}).values())

    def count(self, entry: K) -> int:
        """Return how many objects are under an entry, without looking at them."""
        return len(self._found.get(entry, ()))

    def entries(self) -> list[K]:
        """Return all entries that have objects."""
        return list(self._found)


class Store(Generic[R]):
    """The newest known state of each object of one kind."""

    def __init__(self, model: type[R]) -> None:
        self._model = model
        self._objects: dict[Key, R] = {}
        self._unreadable: dict[Key, UnreadableObject[R]] = {}
        self._versions: dict[Key, int] = {}
        """Of all objects that are known, readable or not."""

        self._followers: list[Follower[R]] = []

    def followed_by(self, follower: F) -> F:
        """Have an index, or another follower, told of each change from now on; returns it."""
        self._followers.append(follower)
        for key, known in self._objects.items():
            follower.changed(key, None, known)
        return follower

    def ingest(self, body: Mapping[str, Any]) -> R | None:
        """Take in an object as the API server sent it; None where it does not fit our model.

        Such an object is known by its metadata (``unreadable``), so that it can be deleted.
        """
        found = read_any(self._model, body)
        if isinstance(found, UnreadableObject):
            self._ingest_unreadable(found)
            return None
        return self.update(found)

    def update(self, resource: R) -> R:
        """Take in an object, and return its newest known state: an older one is ignored.

        Without that, the event of our last but one write would undo the last.
        """
        if self._is_outdated(resource):
            return self._objects.get(resource.key, resource)
        self._unreadable.pop(resource.key, None)
        self._set(resource.key, resource, _version(resource))
        return resource

    def _ingest_unreadable(self, found: UnreadableObject[R]) -> None:
        if self._is_outdated(found):
            return
        known = self._unreadable.get(found.key)
        if known is None or known.problem != found.problem:
            kind = self._model.kind_name
            logger.error("%s %s cannot be read: %s", kind, found.key, found.problem)
        self._unreadable[found.key] = found
        self._set(found.key, None, _version(found))

    def _is_outdated(self, object_: AnyObject) -> bool:
        return self._versions.get(object_.key, 0) > _version(object_)

    def _set(self, key: Key, after: R | None, version: int | None) -> None:
        before = self._objects.pop(key, None)
        if after is not None:
            self._objects[key] = after
        if version is None:
            self._versions.pop(key, None)
        else:
            self._versions[key] = version
        if before is not after:
            for follower in self._followers:
                follower.changed(key, before, after)

    def forget(self, key: Key, uid: str | None = None) -> None:
        """Drop an object that was deleted; a namesake with another UID stays."""
        known = self._objects.get(key) or self._unreadable.get(key)
        if known is not None and (uid is None or known.metadata.uid == uid):
            self._unreadable.pop(key, None)
            self._set(key, None, None)

    def replace(self, listing: Listing[R]) -> set[Key]:
        """Make a fresh list the truth; return the keys that were known and are gone.

        Objects that were seen after the list was made stay. After a restore from a backup nothing
        stays: everything that was seen before belongs to another history of the cluster.
        """
        if self.is_of_another_history(listing):
            logger.warning(
                "the list of %s is older than earlier state: the cluster was restored from a "
                "backup. The list replaces all earlier state",
                self._model.plural,
            )
            self._versions = dict.fromkeys(self._versions, 0)
        present = {resource.key for resource in listing.items} | listing.unreadable
        gone = {
            key
            for key, version in self._versions.items()
            if key not in present and version <= listing.resource_version
        }
        for key in gone:
            self.forget(key)
        for resource in listing.items:
            self.update(resource)
        for unreadable in listing.unreadable_objects:
            self._ingest_unreadable(unreadable)
        return gone

    def is_of_another_history(self, listing: Listing[R]) -> bool:
        """Whether the cluster was restored from a backup since its objects were seen here.

        A backup of a moment ago is soon overtaken: then the list is newer than all that was seen,
        and yet has an object as it was before.
        """
        listed: list[AnyObject] = [*listing.items, *listing.unreadable_objects]
        return listing.was_restored or any(
            _version(each) < self._versions.get(each.key, 0) <= listing.resource_version
            for each in listed
        )

    def get(self, key: Key) -> R | None:
        """Return the object of that name, if there is one that can be read."""
        return self._objects.get(key)

    def unreadable(self, key: Key) -> UnreadableObject[R] | None:
        """Return the object of that name, if there is one that cannot be read."""
        return self._unreadable.get(key)

    def all_unreadable(self) -> list[UnreadableObject[R]]:
        """Return all objects that cannot be read."""
        return list(self._unreadable.values())

    def __iter__(self) -> Iterator[R]:
        return iter(tuple(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)
