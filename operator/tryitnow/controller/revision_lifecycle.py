"""The end of a CheckpointRevision: it is deleted when nothing needs its definition any more.

It is needed while its Checkpoint wants it or restores demos from it, and while a demo or a
NodeCheckpoint refers to it. The finalizer holds one that somebody else deletes, such as with its
whole namespace: the beforeDelete hooks of demos stand in there, and run before.
"""

from __future__ import annotations

import logging
from collections.abc import Set
from datetime import timedelta
from functools import partial
from typing import Any

from tryitnow.api.checkpointrevision import (
    REVISION_FINALIZER,
    CheckpointRevision,
    checkpoint_revision_name,
)
from tryitnow.api.meta import Key
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.observed import wanted_revision
from tryitnow.controller.refusals import Attempt, try_write
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ConflictError
from tryitnow.kubernetes.objects import UnreadableObject

logger = logging.getLogger(__name__)

Revision = CheckpointRevision | UnreadableObject[Any]


async def release_revisions(
    kubernetes: KubernetesApi, cluster: Cluster, checkpoint: Key
) -> timedelta | None:
    """Let go of the revisions of a Checkpoint, there or gone, that nothing needs.

    Returns when to look again; None where each change of a reference has us look.
    """
    for revision in cluster.all_revisions_of(checkpoint):
        # Found out anew each time: meanwhile a demo may refer to it.
        if not is_needed(cluster, checkpoint, revision):
            await _release(kubernetes, cluster, revision)
    left = cluster.all_revisions_of(checkpoint)
    due = (cluster.refusals.next_try(revision.metadata.uid) for revision in left)
    return min((pause for pause in due if pause is not None), default=None)


def is_needed(cluster: Cluster, checkpoint: Key, revision: Revision) -> bool:
    """Whether anything needs the definition in a revision."""
    if cluster.is_referred_to(revision.key):
        return True
    if revision.is_deleting:
        # Its deletion was requested. Where its Checkpoint wants it, it is created again.
        return False
    wanted = _wanted_by(cluster, checkpoint)
    return wanted is None or revision.key in wanted


def _wanted_by(cluster: Cluster, key: Key) -> Set[Key] | None:
    """Return the revisions that a Checkpoint wants; None where that cannot be read."""
    if cluster.checkpoints.unreadable(key) is not None:
        return None
    checkpoint = cluster.checkpoints.get(key)
    if checkpoint is None or checkpoint.is_deleting:
        return frozenset()
    status = checkpoint.status
    identities = wanted_revision(checkpoint), status.current_revision, status.candidate_revision
    names = {checkpoint_revision_name(key.name, each) for each in identities if each}
    return {Key(key.namespace, name) for name in names}


async def _release(kubernetes: KubernetesApi, cluster: Cluster, revision: Revision) -> None:
    """Delete a revision; once its deletion has come back, take the finalizer off.

    Two steps: a crash in between leaves an object whose end goes on by itself.
    """
    uid, is_held = revision.metadata.uid, REVISION_FINALIZER in revision.metadata.finalizers
    if revision.is_deleting and not is_held:
        return  # it waits for another finalizer
    cluster.releasing.add(uid)
    try:
        if revision.is_deleting:
            attempt, write = Attempt.RELEASE, partial(_let_go, kubernetes, cluster, revision)
        else:
            attempt, write = Attempt.DELETE_REVISION, partial(_delete, kubernetes, revision)
        name = revision.metadata.name
        await try_write(kubernetes, cluster.refusals, revision, attempt, name, write)
    finally:
        cluster.releasing.discard(uid)


async def _delete(kubernetes: KubernetesApi, revision: Revision) -> None:
    await kubernetes.delete(revision)


async def _let_go(kubernetes: KubernetesApi, cluster: Cluster, revision: Revision) -> None:
    try:
        await kubernetes.remove_finalizer(revision, REVISION_FINALIZER)
    except ConflictError:
        return  # changed meanwhile: its watch event has us look again
    if revision.metadata.finalizers == (REVISION_FINALIZER,):
        cluster.revisions.forget(revision.key, revision.metadata.uid)
    logger.info("%s: finalizer removed: nothing refers to it any more", revision.key)
