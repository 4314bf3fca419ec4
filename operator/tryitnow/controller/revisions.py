"""CheckpointRevisions: made for each new definition, kept while needed, then deleted."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import (
    REVISION_FINALIZER,
    CheckpointRevision,
    CheckpointRevisionStatus,
    checkpoint_revision_name,
)
from tryitnow.api.meta import CHECKPOINT_LABEL, REVISION_LABEL, ConditionStatus, Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.cluster import Cluster
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ConflictError

logger = logging.getLogger(__name__)


def identity_of(checkpoint: Checkpoint) -> str:
    """Return the identity of the revision that a Checkpoint's spec wants."""
    return checkpoint.spec.definition().identity(checkpoint.metadata.uid)


async def ensure_revision(
    kubernetes: KubernetesApi, cluster: Cluster, checkpoint: Checkpoint
) -> CheckpointRevision:
    """Return the revision that a Checkpoint's spec wants; make it where there is none.

    Raises:
        RefusedError: the API server does not take it.
        KubernetesError: the API server does not answer.

    """
    identity = identity_of(checkpoint)
    name = checkpoint_revision_name(checkpoint.metadata.name, identity)
    key = Key(checkpoint.metadata.namespace, name)
    known = cluster.revisions.get(key)
    if known is not None:
        return known
    number = 1 + max(
        (revision.spec.number for revision in cluster.revisions_of(checkpoint.key)), default=0
    )
    try:
        made = await kubernetes.create(CheckpointRevision, creation(checkpoint, identity, number))
    except ConflictError:
        # Made by a look whose event has not come back yet.
        made = await kubernetes.get(CheckpointRevision, key)
    return cluster.revisions.update(made)


def creation(checkpoint: Checkpoint, identity: str, number: int) -> dict[str, object]:
    """Return the CheckpointRevision to create, as the API server takes it.

    It has no owner: it outlives its Checkpoint for as long as a demo refers to it.
    """
    return {
        "metadata": {
            "name": checkpoint_revision_name(checkpoint.metadata.name, identity),
            "namespace": checkpoint.metadata.namespace,
            "labels": {CHECKPOINT_LABEL: checkpoint.metadata.name, REVISION_LABEL: identity},
            "finalizers": [REVISION_FINALIZER],
        },
        "spec": {
            "checkpoint": checkpoint.metadata.name,
            "checkpointUid": checkpoint.metadata.uid,
            "identity": identity,
            "number": number,
            "definition": checkpoint.spec.definition().to_api(),
        },
    }


async def record_build(
    kubernetes: KubernetesApi, cluster: Cluster, revision: CheckpointRevision, good: NodeCheckpoint
) -> None:
    """Write into a revision what its build on a node produced."""
    built_here = good.spec.fetch is None
    status = revision.status.with_condition(
        revision,
        "Built",
        ConditionStatus.TRUE,
        "TestRestoreAnswered",
        "the revision was built, and a test restore answered",
    )
    update: dict[str, object] = {"archive": good.status.archive}
    if built_here:
        update |= {
            "images": good.status.images,
            "built_by": good.spec.node_name,
            "build_duration": good.status.build_duration,
        }
    wanted: CheckpointRevisionStatus = status.model_copy(update=update)
    cluster.revisions.update(await kubernetes.patch_status(revision, wanted.to_api()))


async def drop_unneeded(kubernetes: KubernetesApi, cluster: Cluster, checkpoint: Key) -> None:
    """Delete the revisions of a Checkpoint that nobody needs any more."""
    for revision in unneeded(cluster, checkpoint):
        if not revision.is_deleting:
            await kubernetes.delete(revision)
            revision = await kubernetes.get(CheckpointRevision, revision.key)
        await kubernetes.remove_finalizer(revision, REVISION_FINALIZER)
        cluster.revisions.forget(revision.key, revision.metadata.uid)
        logger.info("%s: dropped", revision.key)


def unneeded(cluster: Cluster, checkpoint: Key) -> list[CheckpointRevision]:
    """Return the revisions that no Checkpoint, demo or node refers to."""
    needed = _needed(cluster, checkpoint)
    return [r for r in cluster.revisions_of(checkpoint) if r.spec.identity not in needed]


def _needed(cluster: Cluster, key: Key) -> set[str | None]:
    needed: set[str | None] = {demo.status.revision for demo in cluster.instances_of(key)}
    needed |= {held.spec.revision for held in cluster.copies_of(key)}
    checkpoint = cluster.checkpoints.get(key)
    if checkpoint is not None and not checkpoint.is_deleting:
        status = checkpoint.status
        needed |= {identity_of(checkpoint), status.current_revision, status.candidate_revision}
    return needed


def checkpoints_of(revisions: Iterable[CheckpointRevision]) -> set[Key]:
    """Return the Checkpoints that have, or had, revisions."""
    return {revision.checkpoint_key for revision in revisions}
