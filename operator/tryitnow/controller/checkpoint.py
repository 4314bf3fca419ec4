"""A Checkpoint: planned, carried out, and told of in its status."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.meta import Key, Resource
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.nodes import selected
from tryitnow.controller.observed import Observed
from tryitnow.controller.plan import Plan, creation, plan
from tryitnow.controller.refusals import Attempt, noting_refusal
from tryitnow.controller.status import status_from
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ConflictError, NotFoundError, RefusedError

logger = logging.getLogger(__name__)


async def reconcile_checkpoint(
    kubernetes: KubernetesApi, cluster: Cluster, key: Key
) -> timedelta | None:
    """Bring one Checkpoint on; returns when to look again."""
    checkpoint = cluster.checkpoints.get(key)
    if checkpoint is None or checkpoint.is_deleting:
        return None  # its copies go with it: they are owned by it
    writer = _Writer(kubernetes, cluster, checkpoint)
    result = plan(observe(cluster, checkpoint, kubernetes.clock.now()))
    if result.has_writes:
        await writer.carry_out(result)
        # Planned anew: the status reports results, not intentions.
        result = plan(observe(cluster, checkpoint, kubernetes.clock.now()))
    try:
        status = status_from(checkpoint, result)
        cluster.checkpoints.update(await kubernetes.patch_status(checkpoint, status.to_api()))
    except NotFoundError:
        return None
    for event in result.events:
        kubernetes.event(checkpoint, event.reason, event.note, warning=event.is_warning)
    # The status before what is removed: a failure is counted in there, and then cleared away.
    await writer.remove(result)
    due = [result.requeue_after]
    if (next_try := cluster.refusals.next_try(checkpoint.metadata.uid)) is not None:
        due.append(next_try)
    return min(due)


def observe(cluster: Cluster, checkpoint: Checkpoint, at: datetime) -> Observed:
    """Gather what the plan is made from."""
    states = cluster.node_states()
    return Observed(
        checkpoint=checkpoint,
        copies=cluster.copies_of(checkpoint.key),
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

    async def carry_out(self, result: Plan) -> None:
        """Create and change NodeCheckpoints."""
        # The pool first: a copy that the status counts as waiting is then really kept.
        for copy, pool in result.pool.updates:
            change = {"pool": pool.to_api()}
            await self._try(Attempt.UPDATE, copy.key, partial(self._change, copy, change))
        for spec in result.create:
            body = creation(self._checkpoint, spec)
            key = Resource.key_of(body["metadata"])
            await self._try(Attempt.CREATE, key, partial(self._create, key, body))
        for copy, order in result.distribution.fetch_updates:
            change = {"fetch": order.to_api()}
            await self._try(Attempt.UPDATE, copy.key, partial(self._change, copy, change))

    async def remove(self, result: Plan) -> None:
        """Delete NodeCheckpoints."""
        for copy in result.delete:
            await self._try(Attempt.DELETE, copy.key, partial(self._delete, copy))

    async def _try(self, attempt: Attempt, key: Key, write: Callable[[], Awaitable[None]]) -> None:
        checkpoint, refusals = self._checkpoint, self._cluster.refusals
        if not refusals.may_try(checkpoint.metadata.uid, attempt, key.name):
            return
        try:
            with noting_refusal(self._kubernetes, refusals, checkpoint, attempt, key.name):
                await write()
        except NotFoundError:
            return  # gone meanwhile: its event has the Checkpoint planned anew
        except RefusedError as error:
            logger.warning("%s: %s", checkpoint.key, error)

    async def _create(self, key: Key, body: dict[str, Any]) -> None:
        try:
            created = await self._kubernetes.create(NodeCheckpoint, body)
        except ConflictError as error:
            unreadable = self._cluster.copies.unreadable(key)
            if unreadable is None:
                # Made by a plan whose event has not come back yet, or a namesake is going away.
                return
            msg = (
                f"{error}, and does not fit this version of the operator ({unreadable.problem}). "
                "Was the operator rolled back? Bring the newer version back, or delete the "
                f"NodeCheckpoint {key}"
            )
            raise RefusedError(msg) from error
        self._cluster.copies.update(created)
        logger.info("%s: ordered %s", self._checkpoint.key, created.metadata.name)
        if created.spec.fetch is None:
            note = f"building revision {created.spec.revision} on {created.spec.node_name}"
            self._kubernetes.event(self._checkpoint, "Building", note)

    async def _change(self, copy: NodeCheckpoint, spec: dict[str, Any]) -> None:
        self._cluster.copies.update(await self._kubernetes.patch(copy, {"spec": spec}))

    async def _delete(self, copy: NodeCheckpoint) -> None:
        await self._kubernetes.delete(copy)
        logger.info("%s: dropped %s", self._checkpoint.key, copy.metadata.name)
