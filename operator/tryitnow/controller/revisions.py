"""CheckpointRevisions: one for each new definition, with the result of its build."""

from __future__ import annotations

import logging
from typing import Any

from tryitnow.api.archive import Archive
from tryitnow.api.checkpoint import Checkpoint, CheckpointPhase
from tryitnow.api.checkpointrevision import (
    REVISION_FINALIZER,
    CheckpointRevision,
    CheckpointRevisionStatus,
    checkpoint_revision_name,
)
from tryitnow.api.meta import CHECKPOINT_LABEL, REVISION_LABEL, ConditionStatus, Key, Resource
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.build import Build
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.observed import Observed, wanted_revision
from tryitnow.controller.plan import Plan
from tryitnow.controller.references import holds_what_it_says
from tryitnow.controller.serve import Serving
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ConflictError, RefusedError
from tryitnow.kubernetes.objects import UnreadableObjectError

logger = logging.getLogger(__name__)


async def make_revision(
    kubernetes: KubernetesApi, cluster: Cluster, checkpoint: Checkpoint
) -> None:
    """Make the revision that a Checkpoint's spec describes, unless it is there.

    Raises:
        RefusedError: the API server does not take it, or another object has its name.
        NotFoundError: an older one of its name went away at this moment.

    """
    identity = wanted_revision(checkpoint)
    if identity in cluster.revisions_of(checkpoint.key):
        return
    body = creation(checkpoint, identity, _next_number(cluster, checkpoint))
    key = Resource.key_of(body["metadata"])
    try:
        revision = await kubernetes.create(CheckpointRevision, body)
    except ConflictError:
        # Created a moment ago, and its event has not come yet; or created by another client.
        try:
            revision = await kubernetes.get(CheckpointRevision, key)
        except UnreadableObjectError as error:
            raise RefusedError(_unreadable(key, error)) from error
    else:
        logger.info("%s: made revision %d, %s", checkpoint.key, revision.spec.number, key.name)
    cluster.revisions.update(revision)
    if not holds_what_it_says(revision):
        raise RefusedError(_foreign(key))


def creation(checkpoint: Checkpoint, identity: str, number: int) -> dict[str, Any]:
    """Return the CheckpointRevision to create, as the API server takes it.

    It has no owner: it outlives its Checkpoint as long as a demo refers to it.
    """
    name = checkpoint.metadata.name
    return {
        "metadata": {
            "name": checkpoint_revision_name(name, identity),
            "namespace": checkpoint.metadata.namespace,
            "labels": {CHECKPOINT_LABEL: name, REVISION_LABEL: identity},
            "finalizers": [REVISION_FINALIZER],
        },
        "spec": {
            "checkpoint": name,
            "checkpointUid": checkpoint.metadata.uid,
            "identity": identity,
            "number": number,
            "definition": checkpoint.spec.definition().to_api(),
        },
    }


def _next_number(cluster: Cluster, checkpoint: Checkpoint) -> int:
    revisions = cluster.revisions_of(checkpoint.key).values()
    known = [r.spec.number for r in revisions if r.spec.checkpoint_uid == checkpoint.metadata.uid]
    return 1 + max([checkpoint.status.revision_number, *known])


def _foreign(key: Key) -> str:
    return (
        f"CheckpointRevision {key} does not hold the definition that its name stands for, so the "
        "operator did not make it. Delete it; the operator makes the right one"
    )


def _unreadable(key: Key, error: UnreadableObjectError) -> str:
    return (
        f"CheckpointRevision {key} exists and does not fit this version of the operator ({error}). "
        "Was the operator rolled back? Bring the newer version back, or delete the "
        f"CheckpointRevision {key}"
    )


def revision_for_demo(cluster: Cluster, checkpoint: Checkpoint) -> CheckpointRevision | None:
    """Return the revision that a new demo is started from; None where it has not been made yet.

    That is the one that serves, else the wanted one.
    """
    revisions = cluster.revisions_of(checkpoint.key)
    serving = revisions.get(checkpoint.status.current_revision or "")
    return serving or revisions.get(wanted_revision(checkpoint))


# -- the status -----------------------------------------------------------------------------------


def revision_statuses(
    observed: Observed, plan: Plan
) -> list[tuple[CheckpointRevision, CheckpointRevisionStatus]]:
    """Return the revisions that serve or come next, each with its status as it shall be."""
    found = []
    serving = observed.revisions.get(plan.serving.revision or "")
    if serving is not None:
        good = observed.good(plan.serving.revision)
        found.append((serving, built_status(serving, plan.serving, good)))
    wanted = observed.revisions.get(observed.wanted)
    if wanted is not None and not plan.serving.is_wanted:
        found.append((wanted, unbuilt_status(wanted, plan.build)))
    return found


def built_status(
    revision: CheckpointRevision, serving: Serving, good: list[NodeCheckpoint]
) -> CheckpointRevisionStatus:
    """Return the status of a revision that serves.

    Its images are those of the archive that serves: containers are made from them, and CRIU fills
    them from the archive.
    """
    status = _base(revision, ConditionStatus.TRUE, "TestRestoreAnswered", "a test restore answered")
    update: dict[str, Any] = {"archive": serving.archive}
    builder = next(
        (node_checkpoint for node_checkpoint in good if _has_built(node_checkpoint, serving)), None
    )
    if builder is not None:
        update |= {
            "built_by": builder.spec.node_name,
            "build_duration": builder.status.build_duration,
        }
    of_build = builder.status.images if builder is not None else {}
    known = revision.status.images if _is_same(revision.status.archive, serving.archive) else {}
    update["images"] = of_build or known or _images_in(revision, serving)
    return status.model_copy(update=update)


def _has_built(node_checkpoint: NodeCheckpoint, serving: Serving) -> bool:
    return node_checkpoint.spec.fetch is None and _is_same(
        node_checkpoint.status.archive, serving.archive
    )


def _is_same(archive: Archive | None, other: Archive | None) -> bool:
    return archive is not None and other is not None and archive.sha256 == other.sha256


def _images_in(revision: CheckpointRevision, serving: Serving) -> dict[str, str]:
    """Return the images as the archive names them, where no builder can be asked any more."""
    archive = serving.archive
    if archive is None:
        return {}
    members = revision.definition.template.members
    return {container.name: archive.image_of(container.name) for container in members}


def unbuilt_status(revision: CheckpointRevision, build: Build) -> CheckpointRevisionStatus:
    """Return the status of a revision that no node can restore (yet)."""
    last = build.failures.last
    if last is not None:
        holds, reason, message = ConditionStatus.FALSE, last.reason, last.message
    elif build.phase in {CheckpointPhase.BUILDING, CheckpointPhase.VERIFYING}:
        holds, reason, message = ConditionStatus.UNKNOWN, "Building", "it is being built"
    else:
        holds, reason, message = ConditionStatus.UNKNOWN, "NotBuilt", "it has not been built yet"
    return _base(revision, holds, reason, message).model_copy(update={"archive": None})


def _base(
    revision: CheckpointRevision, holds: ConditionStatus, reason: str, message: str
) -> CheckpointRevisionStatus:
    status = revision.status.with_condition(revision, "Built", holds, reason, message)
    return status.model_copy(update={"observed_generation": revision.metadata.generation})
