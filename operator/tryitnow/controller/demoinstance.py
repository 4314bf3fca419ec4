"""An instance's way to a node, and its end."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from tryitnow.api.checkpoint import Checkpoint, OnCrash
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, DemoInstanceStatus, Timings
from tryitnow.api.hooks import parameter_problems
from tryitnow.api.meta import ConditionStatus, Key, find_condition, now
from tryitnow.controller.bind import Binding, Refusal, bind
from tryitnow.controller.cluster import BOUND, Cluster
from tryitnow.controller.distribute import selected
from tryitnow.controller.revisions import ensure_revision
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import NotFoundError
from tryitnow.kubernetes.objects import UnreadableObjectError
from tryitnow.metrics.cluster import BIND_DURATION, BIND_REFUSALS, EXPIRED

logger = logging.getLogger(__name__)

Phase = DemoInstancePhase

INVALID_PARAMETERS = "InvalidParameters"
_MISTAKES = {"CheckpointNotFound", INVALID_PARAMETERS}
"""What somebody has to mend, other than what time brings."""

LOOK_AGAIN = timedelta(seconds=10)
"""For an instance that waits: whatever it waits for also queues it, but nodes fall silent
without saying so."""


async def reconcile_instance(
    kubernetes: KubernetesApi, cluster: Cluster, key: Key
) -> timedelta | None:
    """Bring one instance on; returns when to look again."""
    began = time.monotonic()
    instance = cluster.instances.get(key)
    if instance is None or instance.is_deleting:
        return None
    expires_at = instance.expires_at()
    if expires_at is not None and expires_at <= now():
        kubernetes.event(instance, "Expired", f"its ttl ended at {expires_at:%H:%M:%S} UTC")
        logger.info("%s: expired", key)
        await kubernetes.delete(instance)
        cluster.metrics.count(EXPIRED)
        return None
    if instance.status.node_name is None:
        instance = await _bind(kubernetes, cluster, instance, began)
    elif _expiry_changed(instance):
        instance = await _write(kubernetes, cluster, instance, _base(instance))
    waits = instance.status.node_name is None
    due = [LOOK_AGAIN] if waits else []
    if expires_at is not None:
        due.append(max(expires_at - now(), timedelta()))
    return min(due, default=None)


def _base(instance: DemoInstance) -> DemoInstanceStatus:
    """Return the status with the fields that are the controller's for the whole life."""
    return instance.status.model_copy(
        update={
            "observed_generation": instance.metadata.generation,
            "expires_at": instance.expires_at(),
        }
    )


def _expiry_changed(instance: DemoInstance) -> bool:
    status = instance.status
    return (
        status.expires_at != instance.expires_at()
        or status.observed_generation != instance.metadata.generation
    )


async def _bind(
    kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance, began: float
) -> DemoInstance:
    decision = await _decide(kubernetes, cluster, instance)
    if isinstance(decision, Refusal):
        cluster.metrics.count(BIND_REFUSALS, reason=decision.reason)
        is_mistake = decision.reason in _MISTAKES
        ready = ConditionStatus.FALSE if is_mistake else ConditionStatus.UNKNOWN
        status = _base(instance).with_condition(
            instance, "Ready", ready, decision.reason, decision.message
        )
        if decision.reason == INVALID_PARAMETERS:
            status = _stalled(instance, status, ConditionStatus.TRUE, decision)
        if status.conditions != instance.status.conditions:
            kubernetes.event(instance, decision.reason, decision.message, warning=True)
        return await _write(kubernetes, cluster, instance, status)
    status = _base(instance).with_condition(
        instance,
        "Ready",
        ConditionStatus.UNKNOWN,
        BOUND,
        f"bound to {decision.node_name}; starting",
    )
    if find_condition(status.conditions, "Stalled") is not None:
        cause = Refusal(BOUND, "what kept it from starting is mended")
        status = _stalled(instance, status, ConditionStatus.FALSE, cause)
    update = {
        "phase": Phase.STARTING,
        "node_name": decision.node_name,
        "revision": decision.revision,
        "on_crash": instance.spec.on_crash or await _on_crash(kubernetes, cluster, instance),
        "timings": Timings(bind=timedelta(seconds=time.monotonic() - began)),
    }
    cluster.assumed[instance.metadata.uid] = decision.node_name
    try:
        # Only if nobody touched it: an instance is bound once in its life.
        bound = await _write(
            kubernetes, cluster, instance, status.model_copy(update=update), exclusive=True
        )
    finally:
        del cluster.assumed[instance.metadata.uid]
    cluster.metrics.observe(BIND_DURATION, time.monotonic() - began)
    kubernetes.event(instance, BOUND, f"bound to node {decision.node_name}")
    return bound


async def _decide(
    kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance
) -> Binding | Refusal:
    name = instance.spec.checkpoint_ref.name
    try:
        checkpoint = await _checkpoint_of(kubernetes, cluster, instance)
    except UnreadableObjectError as error:
        return Refusal(
            "CheckpointUnreadable",
            f"Checkpoint {name!r} does not fit this version of the operator: {error}. Was the "
            "operator rolled back? Then bring the newer one back, or apply the Checkpoint anew",
        )
    if checkpoint is None or checkpoint.is_deleting:
        return Refusal(
            "CheckpointNotFound",
            f"spec.checkpointRef.name: there is no Checkpoint {name!r} in namespace "
            f"{instance.metadata.namespace}; create it, or delete this DemoInstance and create "
            "one with the right name",
        )
    problems = parameter_problems(checkpoint.spec.parameters, instance.spec.parameters)
    if problems:
        return Refusal(
            INVALID_PARAMETERS,
            f"{'; '.join(problems)}. Create another DemoInstance with the right parameters",
        )
    # The agent of its node reads the definition there.
    revision = await ensure_revision(kubernetes, cluster, checkpoint)
    distribution = checkpoint.spec.distribution
    return bind(
        instance,
        checkpoint,
        revision.spec.identity,
        cluster.copies_of(checkpoint.key),
        selected(distribution, cluster.agents, cluster.node_labels),
        cluster.taken(checkpoint.key),
        now(),
    )


async def _checkpoint_of(
    kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance
) -> Checkpoint | None:
    """Return what an instance is to be a copy of; None where there is none."""
    known = cluster.checkpoints.get(instance.checkpoint_key)
    if known is not None:
        return known
    # Each kind comes by a watch of its own: one that was created together with its instance may
    # not have come yet, and programs give up when they are told that there is none.
    try:
        return await kubernetes.get(Checkpoint, instance.checkpoint_key)
    except NotFoundError:
        return None


async def _on_crash(kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance) -> OnCrash:
    checkpoint = await _checkpoint_of(kubernetes, cluster, instance)
    return checkpoint.spec.on_crash if checkpoint is not None else OnCrash.KEEP


def _stalled(
    instance: DemoInstance,
    status: DemoInstanceStatus,
    stalled: ConditionStatus,
    cause: Refusal,
) -> DemoInstanceStatus:
    marked = status.with_condition(instance, "Stalled", stalled, cause.reason, cause.message)
    phase = Phase.FAILED if stalled is ConditionStatus.TRUE else Phase.PENDING
    return marked.model_copy(update={"phase": phase})


async def _write(
    kubernetes: KubernetesApi,
    cluster: Cluster,
    instance: DemoInstance,
    status: DemoInstanceStatus,
    *,
    exclusive: bool = False,
) -> DemoInstance:
    written = await kubernetes.patch_status(instance, status.to_api(), only_if_unchanged=exclusive)
    return cluster.instances.update(written)
