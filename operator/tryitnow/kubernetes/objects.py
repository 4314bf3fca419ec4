"""Objects as the API server sends them: read into our models or, where they do not fit, known by
their metadata alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from tryitnow.api.meta import Identified, Key, ObjectMeta, Resource

R = TypeVar("R", bound=Resource)


class UnreadableObjectError(ValueError):
    """An object does not fit our model; the message names the fields.

    The CRD refuses most of these; what remains was stored under another version of it.
    """


@dataclass(frozen=True)
class UnreadableObject(Identified, Generic[R]):
    """An object that does not fit our model, such as one that a newer version of us wrote.

    Its metadata is all that is needed to let it go.
    """

    model: type[R]
    metadata: ObjectMeta
    body: Mapping[str, Any]
    """The object as the API server sent it."""

    problem: str
    """The fields that do not fit, and why."""

    def text_at(self, *path: str) -> str | None:
        """Return the text at a path of the object, such as ``spec``, ``nodeName``; else None."""
        found: Any = self.body
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found if isinstance(found, str) else None


AnyObject = Resource | UnreadableObject[Any]
"""An object of one of our kinds, readable or not."""


def model_of(object_: AnyObject) -> type[Resource]:
    """Return the model of the object's kind."""
    return object_.model if isinstance(object_, UnreadableObject) else type(object_)


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


def read_any(model: type[R], body: Mapping[str, Any]) -> R | UnreadableObject[R]:
    """Read an object as the API server sent it, or at least its metadata."""
    try:
        return read(model, body)
    except UnreadableObjectError as error:
        metadata = ObjectMeta.model_validate(body["metadata"])
        return UnreadableObject(model, metadata, body, str(error))


@dataclass(frozen=True)
class Listing(Generic[R]):
    """All objects of a kind at one moment."""

    items: list[R]
    resource_version: int
    unreadable_objects: tuple[UnreadableObject[R], ...] = ()
    """Objects that are there and do not fit our model."""

    was_restored: bool = False
    """Whether the cluster is at an older version than it was at when it was last listed: etcd was
    restored from a backup, and everything newer than the backup is gone."""

    @property
    def unreadable(self) -> frozenset[Key]:
        """Names of the objects that do not fit our model."""
        return frozenset(each.key for each in self.unreadable_objects)
