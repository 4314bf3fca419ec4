"""Which objects refer to a CheckpointRevision, and so still need its definition.

A demo that is being deleted refers to its revision until it is gone: its beforeDelete hooks stand
in there. So does a NodeCheckpoint, and so does an object that does not fit our models.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tryitnow.api.checkpointrevision import CheckpointRevision, checkpoint_revision_name
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import CHECKPOINT_LABEL, Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.kubernetes.objects import UnreadableObject
from tryitnow.kubernetes.store import Index, Store

Unreadable = UnreadableObject[Any]


def checkpoint_of(object_: NodeCheckpoint | CheckpointRevision | Unreadable) -> Key:
    """Return the Checkpoint that a NodeCheckpoint or a CheckpointRevision belongs to."""
    if not isinstance(object_, UnreadableObject):
        return object_.checkpoint_key
    labelled = object_.metadata.labels.get(CHECKPOINT_LABEL, "")
    name = object_.text_at("spec", "checkpoint") or labelled
    return Key(object_.metadata.namespace, name)


def revision_of(object_: DemoInstance | NodeCheckpoint | Unreadable) -> Key | None:
    """Return the CheckpointRevision that a demo or a NodeCheckpoint refers to; None without one."""
    if not isinstance(object_, UnreadableObject):
        return object_.revision_key
    if issubclass(object_.model, DemoInstance):
        checkpoint = object_.text_at("spec", "checkpointRef", "name")
        identity = object_.text_at("status", "revision")
    else:
        checkpoint = object_.text_at("spec", "checkpoint")
        identity = object_.text_at("spec", "revision")
    if checkpoint is None or identity is None:
        return None
    name = checkpoint_revision_name(checkpoint, identity)
    return Key(object_.metadata.namespace, name)


class Consistent:
    """The CheckpointRevisions whose definition matches their name.

    Agents run the definition, so a revision that the controller did not make must not be used. A
    definition never changes, so each is checked once.
    """

    def __init__(self) -> None:
        self._keys: set[Key] = set()

    def changed(
        self, key: Key, before: CheckpointRevision | None, after: CheckpointRevision | None
    ) -> None:
        """Take note of a change of the store."""
        if after is None:
            self._keys.discard(key)
        elif before is None or before.spec != after.spec:
            self._keys.discard(key)
            if holds_what_it_says(after):
                self._keys.add(key)

    def __contains__(self, key: Key) -> bool:
        return key in self._keys


def holds_what_it_says(revision: CheckpointRevision) -> bool:
    """Whether the definition of a revision matches its name."""
    spec = revision.spec
    name = checkpoint_revision_name(spec.checkpoint, spec.identity)
    return revision.is_consistent and revision.metadata.name == name


class References:
    """All references to CheckpointRevisions, counted as objects come, change and go."""

    def __init__(
        self, instances: Store[DemoInstance], node_checkpoints: Store[NodeCheckpoint]
    ) -> None:
        self._instances = instances
        self._node_checkpoints = node_checkpoints
        self._of_instances: Index[DemoInstance, Key] = instances.followed_by(Index(_entries))
        self._of_node_checkpoints: Index[NodeCheckpoint, Key] = node_checkpoints.followed_by(
            Index(_entries)
        )

    def has(self, revision: Key) -> bool:
        """Whether a demo or a NodeCheckpoint refers to a CheckpointRevision."""
        if self._of_instances.count(revision) or self._of_node_checkpoints.count(revision):
            return True
        return any(revision_of(object_) == revision for object_ in self._unreadable())

    def _unreadable(self) -> Iterator[Unreadable]:
        yield from self._instances.all_unreadable()
        yield from self._node_checkpoints.all_unreadable()


def _entries(object_: DemoInstance | NodeCheckpoint) -> list[Key]:
    revision = object_.revision_key
    return [] if revision is None else [revision]
