"""The CheckpointRevisions that this node works with, each read once: a definition never changes.

Nothing is built, started or restored from a revision that nobody vouches for: a CheckpointRevision
and a NodeCheckpoint are the controller's words, and the controller writes no Checkpoint and no
status of a NodeCheckpoint.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import ClassVar

from tryitnow.agent.approvals import Approvals
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision, checkpoint_revision_name
from tryitnow.api.definition import Definition
from tryitnow.api.demoinstance import REVISION_UNCONFIRMED
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import NotFoundError
from tryitnow.kubernetes.objects import UnreadableObjectError
from tryitnow.podman.references import is_image_of, is_of_registry

_KEPT = 500
"""Revisions that are remembered: more than a node runs demos of."""


class RevisionError(Exception):
    """A revision cannot be used; the message says why.

    Attributes:
        reason: One word for programs.

    """

    reason: ClassVar[str] = "RevisionChanged"


class UnconfirmedError(RevisionError):
    """Nobody but the controller says that an author wrote the definition of a revision."""

    reason = REVISION_UNCONFIRMED


class RegistryNotAllowedError(RevisionError):
    """A revision names an image of a registry that the administrator does not allow."""

    reason = "RegistryNotAllowed"


def expect_images(definition: Definition, images: Mapping[str, str], where: str) -> None:
    """Expect that images are of the repositories that a definition names.

    Args:
        definition: That of the revision.
        images: Pinned references by container; one that is not there is not known yet.
        where: What names them, for the message.

    Raises:
        RevisionError: one is of another repository.

    """
    for container in definition.template.members:
        image = images.get(container.name)
        if image is not None and not is_image_of(image, container.image):
            msg = (
                f"{where} has {image} for container {container.name}, which is no image of "
                f"{container.image}; nothing is started from it"
            )
            raise RevisionError(msg)


class Revisions:
    """Reads revisions, checks that an author wrote them, and remembers them."""

    def __init__(
        self,
        kubernetes: KubernetesApi,
        approvals: Approvals,
        allowed_registries: Collection[str] = (),
    ) -> None:
        self._kubernetes = kubernetes
        self._approvals = approvals
        self._allowed_registries = allowed_registries
        self._known: OrderedDict[Key, CheckpointRevision] = OrderedDict()

    async def get(self, key: Key, *, need_images: bool = False) -> CheckpointRevision:
        """Return a revision whose definition an author wrote.

        Args:
            key: Namespace and name.
            need_images: Whether its pinned images are wanted, which it gets when it is built.

        Raises:
            NotFoundError: there is no such revision, or its Checkpoint is gone and this node has
                never run it.
            RevisionError: its definition is not the one that its identity stands for, or nobody
                vouches for it.
            KubernetesError: the API server does not answer, and the revision is not known.
            OSError: the disk is full or broken.

        """
        known = self._known.get(key)
        if known is not None and (known.status.images or not need_images):
            self._known.move_to_end(key)
            return known
        found = await self._kubernetes.get(CheckpointRevision, key)
        name = checkpoint_revision_name(found.spec.checkpoint, found.spec.identity)
        if not found.is_consistent or name != key.name:
            msg = (
                f"CheckpointRevision {key}: its definition was changed by hand: it does not have "
                "the identity of the object any more. Delete it, and the controller makes it anew"
            )
            raise RevisionError(msg)
        expect_images(found.definition, found.status.images, f"CheckpointRevision {key}")
        await self._approve(found)
        self._known[key] = found
        self._known.move_to_end(key)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return found

    def expect_allowed(self, revision: CheckpointRevision) -> None:
        """Expect that all images are of registries that the administrator allows.

        What runs already is not asked: it is watched, started again and ended as before.

        Raises:
            RegistryNotAllowedError: one is not.

        """
        if not self._allowed_registries:
            return
        for field, container in revision.definition.template.by_field():
            image = container.image
            if not any(is_of_registry(image, each) for each in self._allowed_registries):
                msg = (
                    f"{field}.image: {image} is of no registry that the administrator allows "
                    f"(agent.images.allowedRegistries: {', '.join(self._allowed_registries)}). Use "
                    "an image of one of these, or have an administrator add its registry"
                )
                raise RegistryNotAllowedError(msg)

    async def expect_live(self, revision: CheckpointRevision) -> Checkpoint:
        """Return the Checkpoint that a revision belongs to.

        Raises:
            NotFoundError: it is gone; another of its name is another Checkpoint.
            UnconfirmedError: it cannot be read.

        """
        key = revision.checkpoint_key
        try:
            checkpoint = await self._kubernetes.get(Checkpoint, key)
        except UnreadableObjectError as error:
            msg = f"Checkpoint {key} does not fit this version of the operator: {error}"
            raise UnconfirmedError(msg) from error
        if checkpoint.metadata.uid != revision.spec.checkpoint_uid:
            msg = f"the Checkpoint {key} of revision {revision.metadata.name} is gone"
            raise NotFoundError(msg)
        return checkpoint

    async def _approve(self, revision: CheckpointRevision) -> None:
        """Have somebody else than the controller vouch for a revision."""
        identity = revision.spec.identity
        if await asyncio.to_thread(self._approvals.has, identity):
            return
        checkpoint = await self.expect_live(revision)
        says_it = checkpoint.spec.definition().identity(checkpoint.metadata.uid) == identity
        if not says_it and not await self._is_ready_elsewhere(revision):
            msg = (
                f"revision {identity} is not what Checkpoint {checkpoint.key} says now, and no "
                "node has a Ready NodeCheckpoint of it: nobody confirms that an author wrote it, "
                "so nothing is started from it. Apply the Checkpoint as it was, or delete what "
                "refers to the revision"
            )
            raise UnconfirmedError(msg)
        await asyncio.to_thread(self._approvals.add, identity)

    async def _is_ready_elsewhere(self, revision: CheckpointRevision) -> bool:
        """Whether an agent says that it restored the revision: it approved it before.

        The status of a NodeCheckpoint is its agent's alone: RBAC gives it to no other program.
        """
        found = await self._kubernetes.list_all(
            NodeCheckpoint,
            namespace=revision.metadata.namespace,
            field_selector=f"spec.checkpoint={revision.spec.checkpoint}",
        )
        return any(
            each.spec.revision == revision.spec.identity and each.is_ready for each in found.items
        )

    def trim(self, needed: set[str]) -> None:
        """Forget approvals that nothing here needs, once there are many. Blocking."""
        self._approvals.trim(needed)
