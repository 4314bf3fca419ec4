"""Reconciles a Checkpoint: plans, carries the plan out, and writes the status."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision, CheckpointRevisionStatus
from tryitnow.api.meta import Key, Resource
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.nodes import selected
from tryitnow.controller.observed import Observed
from tryitnow.controller.plan import Plan, creation, plan
from tryitnow.controller.refusals import Attempt, try_write
from tryitnow.controller.revision_lifecycle import release_revisions
from tryitnow.controller.revisions import make_revision, revision_statuses
from tryitnow.controller.status import status_from
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ConflictError, NotFoundError, RefusedError

logger = logging.getLogger(__name__)


async def reconcile_checkpoint(
    kubernetes: KubernetesApi, cluster: Cluster, key: Key
) -> timedelta | None:
    """Reconcile one Checkpoint; returns the pause until the next time."""
    checkpoint = cluster.checkpoints.get(key)
    if checkpoint is None or checkpoint.is_deleting:
        # It owns its NodeCheckpoints, which go with it. Its revisions stay as long as its demos.
        return await release_revisions(kubernetes, cluster, key)
    writer = _Writer(kubernetes, cluster, checkpoint)
    await writer.make_revision()
    observed = observe(cluster, checkpoint, kubernetes.clock.now())
    result = plan(observed)
    if result.has_writes:
        await writer.carry_out(result)
        # Planned again: the status reports results, not intentions.
        observed = observe(cluster, checkpoint, kubernetes.clock.now())
        result = plan(observed)
    # The revisions first: a Checkpoint that is Ready has one with its images.
    for revision, built in revision_statuses(observed, result):
        await writer.write_revision(revision, built)
    try:
        status = status_from(checkpoint, result)
        cluster.checkpoints.update(await kubernetes.patch_status(checkpoint, status.to_api()))
    except NotFoundError:
        return None
    for event in result.events:
        kubernetes.event(checkpoint, event.reason, event.note, warning=event.is_warning)
    # The status before the removal: it counts a failure whose leftovers are removed then.
    await writer.remove(result)
    due = [
        result.requeue_after,
        cluster.refusals.next_try(checkpoint.metadata.uid),
        await release_revisions(kubernetes, cluster, key),
    ]
    return min(after for after in due if after is not None)


def observe(cluster: Cluster, checkpoint: Checkpoint, at: datetime) -> Observed:
    """Gather the facts for the plan."""
    states = cluster.node_states()
    return Observed(
        checkpoint=checkpoint,
        revisions={
            identity: revision
            for identity, revision in cluster.revisions_of(checkpoint.key).items()
            if revision.spec.checkpoint_uid == checkpoint.metadata.uid
        },
        node_checkpoints=cluster.node_checkpoints_of(checkpoint.key),
        selected=selected(checkpoint.spec.distribution, states),
        nodes={state.name: state for state in states},
        architectures=cluster.architectures(),
        starting=frozenset(
            each.status.revision
            for each in cluster.under_way_of(checkpoint.key)
            if each.status.revision and not each.is_deleting
        ),
        at=at,
        refused=cluster.refusals.paused(checkpoint.metadata.uid),
    )


class _Writer:
    """Carries out the plan for one Checkpoint; reports refused writes and puts them off."""

    def __init__(self, kubernetes: KubernetesApi, cluster: Cluster, checkpoint: Checkpoint) -> None:
        self._kubernetes = kubernetes
        self._cluster = cluster
        self._checkpoint = checkpoint

    async def make_revision(self) -> None:
        """Make the CheckpointRevision that the spec describes."""
        write = partial(make_revision, self._kubernetes, self._cluster, self._checkpoint)
        await self._try(Attempt.CREATE_REVISION, self._checkpoint.key, write)

    async def write_revision(
        self, revision: CheckpointRevision, status: CheckpointRevisionStatus
    ) -> None:
        """Write the result of a build into its revision."""

        async def write() -> None:
            written = await self._kubernetes.patch_status(revision, status.to_api())
            self._cluster.revisions.update(written)

        await self._try(Attempt.REVISION_STATUS, revision.key, write)

    async def carry_out(self, result: Plan) -> None:
        """Create and change NodeCheckpoints."""
        # The pool first: a warm sandbox that the status counts is then really kept.
        for node_checkpoint, pool in result.pool.updates:
            change = {"pool": pool.to_api()}
            await self._try(
                Attempt.UPDATE, node_checkpoint.key, partial(self._change, node_checkpoint, change)
            )
        for spec in result.create:
            body = creation(self._checkpoint, spec)
            key = Resource.key_of(body["metadata"])
            await self._try(Attempt.CREATE, key, partial(self._create, key, body))
        for node_checkpoint, order in result.distribution.fetch_updates:
            change = {"fetch": order.to_api()}
            await self._try(
                Attempt.UPDATE, node_checkpoint.key, partial(self._change, node_checkpoint, change)
            )

    async def remove(self, result: Plan) -> None:
        """Delete NodeCheckpoints."""
        for node_checkpoint in result.delete:
            await self._try(
                Attempt.DELETE, node_checkpoint.key, partial(self._delete, node_checkpoint)
            )

    async def _try(self, attempt: Attempt, key: Key, write: Callable[[], Awaitable[None]]) -> None:
        refusals = self._cluster.refusals
        await try_write(self._kubernetes, refusals, self._checkpoint, attempt, key.name, write)

    async def _create(self, key: Key, body: dict[str, Any]) -> None:
        try:
            created = await self._kubernetes.create(NodeCheckpoint, body)
        except ConflictError as error:
            unreadable = self._cluster.node_checkpoints.unreadable(key)
            if unreadable is None:
                # Made by a plan whose event has not come back yet, or a namesake is going away.
                return
            msg = (
                f"{error}, and does not fit this version of the operator ({unreadable.problem}). "
                "Was the operator rolled back? Bring the newer version back, or delete the "
                f"NodeCheckpoint {key}"
            )
            raise RefusedError(msg) from error
        self._cluster.node_checkpoints.update(created)
        logger.info("%s: ordered %s", self._checkpoint.key, created.metadata.name)
        if created.spec.fetch is None:
            revision = self._cluster.revisions_of(self._checkpoint.key).get(created.spec.revision)
            label = revision.spec.number if revision is not None else created.spec.revision
            note = f"building revision {label} on {created.spec.node_name}"
            self._kubernetes.event(self._checkpoint, "Building", note)

    async def _change(self, node_checkpoint: NodeCheckpoint, spec: dict[str, Any]) -> None:
        self._cluster.node_checkpoints.update(
            await self._kubernetes.patch(node_checkpoint, {"spec": spec})
        )

    async def _delete(self, node_checkpoint: NodeCheckpoint) -> None:
        await self._kubernetes.delete(node_checkpoint)
        logger.info("%s: dropped %s", self._checkpoint.key, node_checkpoint.metadata.name)
