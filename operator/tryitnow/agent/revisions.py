"""The CheckpointRevisions that this node works with, each read once: a definition never changes."""

from __future__ import annotations

from collections import OrderedDict

from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.meta import Key
from tryitnow.kubernetes.client import KubernetesApi

_KEPT = 500
"""Revisions that are remembered: more than a node runs demos of."""


class RevisionError(Exception):
    """A revision cannot be used; the message says why."""


class Revisions:
    """Reads revisions and remembers them."""

    def __init__(self, kubernetes: KubernetesApi) -> None:
        self._kubernetes = kubernetes
        self._known: OrderedDict[Key, CheckpointRevision] = OrderedDict()

    async def get(self, key: Key, *, need_images: bool = False) -> CheckpointRevision:
        """Return a revision.

        Args:
            key: Namespace and name.
            need_images: Whether its pinned images are wanted, which it gets when it is built.

        Raises:
            NotFoundError: there is no such revision.
            RevisionError: its definition is not the one that its identity stands for.
            KubernetesError: the API server does not answer, and the revision is not known.

        """
        known = self._known.get(key)
        if known is not None and (known.status.images or not need_images):
            self._known.move_to_end(key)
            return known
        found = await self._kubernetes.get(CheckpointRevision, key)
        if not found.is_consistent:
            msg = (
                f"CheckpointRevision {key}: its definition was changed by hand: it does not have "
                "the identity of the object any more. Delete it, and the controller makes it anew"
            )
            raise RevisionError(msg)
        self._known[key] = found
        self._known.move_to_end(key)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return found
