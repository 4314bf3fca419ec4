"""Reconciles a DemoInstance: binds it to a node, and deletes it at the end of its ttl."""

from __future__ import annotations

import time
from datetime import timedelta

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, DemoInstanceStatus, Timings
from tryitnow.api.duration import format_duration
from tryitnow.api.hooks import parameter_problems
from tryitnow.api.meta import ConditionStatus, Key, find_condition
from tryitnow.controller.bind import Binding, Unbound, bind
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.expire import expire, expiry_check
from tryitnow.controller.instance_status import write_status
from tryitnow.controller.nodes import selected
from tryitnow.controller.observed import wanted_revision
from tryitnow.controller.refusals import Attempt
from tryitnow.controller.revisions import revision_for_demo
from tryitnow.controller.usage import BOUND
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import NotFoundError
from tryitnow.kubernetes.objects import UnreadableObjectError
from tryitnow.metrics.cluster import BIND_DURATION, BIND_REFUSALS

Phase = DemoInstancePhase

INVALID_PARAMETERS = "InvalidParameters"
REVISION_PENDING = "RevisionPending"
INSTANCE_LIMIT = "LimitReached"
TTL_SHORTENED = "TtlShortened"
_MISTAKES = {"CheckpointNotFound", INVALID_PARAMETERS}
"""Reasons that a person has to fix: time alone does not."""

RESYNC_INTERVAL = timedelta(seconds=10)
"""For an instance that waits. The events that it waits for also queue it, but a node that falls
silent causes no event."""


async def reconcile_instance(
    kubernetes: KubernetesApi, cluster: Cluster, key: Key
) -> timedelta | None:
    """Reconcile one instance; returns the pause until the next time."""
    began = time.monotonic()
    instance = cluster.instances.get(key)
    if instance is None or instance.is_deleting:
        return None
    if await expire(kubernetes, cluster, instance):
        return cluster.refusals.next_try(instance.metadata.uid)
    # It may have changed meanwhile.
    instance = cluster.instances.get(key) or instance
    try:
        if instance.status.node_name is None:
            await _bind(kubernetes, cluster, instance, began)
        elif (status := _bound(cluster, instance)) != instance.status:
            await write_status(kubernetes, cluster, instance, status)
    except NotFoundError:
        return None
    instance = cluster.instances.get(key)
    if instance is None:
        return None
    due = [
        RESYNC_INTERVAL if instance.status.node_name is None else None,
        expiry_check(kubernetes, cluster, instance),
        cluster.refusals.next_try(instance.metadata.uid),
    ]
    return min((after for after in due if after is not None), default=None)


def _base(cluster: Cluster, instance: DemoInstance) -> DemoInstanceStatus:
    """Return the status with the fields that are the controller's for the whole life."""
    status = instance.status.model_copy(
        update={
            "observed_generation": instance.metadata.generation,
            "expires_at": cluster.expires_at(instance),
            "on_crash": instance.spec.on_crash or instance.status.on_crash,
        }
    )
    lifetimes, wanted = cluster.lifetimes_of(instance), instance.spec.ttl
    if wanted is not None and lifetimes.max_ttl is not None and lifetimes.shortens(wanted):
        message = (
            f"spec.ttl is {format_duration(wanted)}; spec.limits.maxTtl of the Checkpoint "
            f"{instance.spec.checkpoint_ref.name} is {format_duration(lifetimes.max_ttl)}, and "
            "status.expiresAt goes by that. Create another demo when this one has ended"
        )
        return status.with_condition(
            instance, TTL_SHORTENED, ConditionStatus.TRUE, "MaxTtl", message
        )
    if find_condition(status.conditions, TTL_SHORTENED) is not None:
        message = "its ttl is within what the Checkpoint allows"
        return status.with_condition(
            instance, TTL_SHORTENED, ConditionStatus.FALSE, "WithinMaxTtl", message
        )
    return status


def _bound(cluster: Cluster, instance: DemoInstance) -> DemoInstanceStatus:
    """Return the status of a bound instance.

    Where its agent does not start it from its revision, as the Checkpoint said something else
    before the agent could see what it had said, it gets the revision of a new instance: it was
    never started.
    """
    status = _base(cluster, instance)
    checkpoint = cluster.checkpoints.get(instance.checkpoint_key)
    if not instance.is_unconfirmed or checkpoint is None or checkpoint.is_deleting:
        return status
    revision = revision_for_demo(cluster, checkpoint)
    if revision is None or _check_parameters(instance, checkpoint, revision) is not None:
        return status
    return status.model_copy(update={"revision": revision.spec.identity})


async def _bind(
    kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance, began: float
) -> None:
    decision = await _decide(kubernetes, cluster, instance)
    if isinstance(decision, Unbound):
        cluster.metrics.count(BIND_REFUSALS, reason=decision.reason)
        is_mistake = decision.reason in _MISTAKES
        ready = ConditionStatus.FALSE if is_mistake else ConditionStatus.UNKNOWN
        status = _base(cluster, instance).with_condition(
            instance, "Ready", ready, decision.reason, decision.message
        )
        if decision.reason == INVALID_PARAMETERS:
            status = _stalled(instance, status, ConditionStatus.TRUE, decision)
        elif find_condition(status.conditions, "Stalled") is not None:
            status = _stalled(instance, status, ConditionStatus.FALSE, decision)
        # The revision of a new Checkpoint comes in a moment: that is worth no Event.
        is_news = decision.reason != REVISION_PENDING
        if is_news and status.conditions != instance.status.conditions:
            kubernetes.event(instance, decision.reason, decision.message, warning=True)
        await write_status(kubernetes, cluster, instance, status)
        return
    status = _base(cluster, instance).with_condition(
        instance,
        "Ready",
        ConditionStatus.UNKNOWN,
        BOUND,
        f"bound to {decision.node_name}; starting",
    )
    if find_condition(status.conditions, "Stalled") is not None:
        cause = Unbound(BOUND, "the cause is fixed")
        status = _stalled(instance, status, ConditionStatus.FALSE, cause)
    update = {
        "phase": Phase.STARTING,
        "node_name": decision.node_name,
        "revision": decision.revision,
        "on_crash": decision.on_crash,
        "lifetimes": decision.lifetimes,
        "timings": Timings(bind=timedelta(seconds=time.monotonic() - began)),
    }
    cluster.assume(instance, decision.node_name, decision.revision)
    try:
        # Only if it has not changed: an instance is bound once in its life.
        bound = await write_status(
            kubernetes, cluster, instance, status.model_copy(update=update), exclusive=True
        )
    finally:
        cluster.settle(instance)
    if bound is None:
        return
    cluster.metrics.observe(BIND_DURATION, time.monotonic() - began)
    kubernetes.event(instance, BOUND, f"bound to node {decision.node_name}")


async def _decide(
    kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance
) -> Binding | Unbound:
    name = instance.spec.checkpoint_ref.name
    try:
        checkpoint = await _checkpoint_of(kubernetes, cluster, instance)
    except UnreadableObjectError as error:
        return Unbound(
            "CheckpointUnreadable",
            f"Checkpoint {name!r} does not fit this version of the operator: {error}. Was the "
            "operator rolled back? Then bring the newer one back, or apply the Checkpoint again",
        )
    if checkpoint is None or checkpoint.is_deleting:
        return Unbound(
            "CheckpointNotFound",
            f"spec.checkpointRef.name: there is no Checkpoint {name!r} in namespace "
            f"{instance.metadata.namespace}; create it, or delete this DemoInstance and create "
            "one with the right name",
        )
    revision = revision_for_demo(cluster, checkpoint)
    if revision is None:
        return _without_revision(cluster, checkpoint)
    if (unbound := _check_parameters(instance, checkpoint, revision)) is not None:
        return unbound
    if (limited := _check_limit(cluster, checkpoint)) is not None:
        return limited
    candidates = selected(checkpoint.spec.distribution, cluster.node_states())
    return bind(
        instance,
        checkpoint,
        revision.spec.identity,
        cluster.node_checkpoints_of(checkpoint.key),
        candidates,
        cluster.usage(checkpoint.key, [state.name for state in candidates]),
    )


def _check_limit(cluster: Cluster, checkpoint: Checkpoint) -> Unbound | None:
    most = checkpoint.spec.limits.instances
    if most is None or cluster.running_of(checkpoint.key) < most:
        return None
    name = checkpoint.metadata.name
    if most == 0:
        message = f"spec.limits.instances of the Checkpoint {name} is 0: it starts no demos"
    else:
        message = (
            f"spec.limits.instances of the Checkpoint {name} is {most}, and as many demos are "
            "there. This one starts by itself when another ends: delete one, wait, or have the "
            "limit raised"
        )
    return Unbound(INSTANCE_LIMIT, message)


def _without_revision(cluster: Cluster, checkpoint: Checkpoint) -> Unbound:
    refused = cluster.refusals.paused(checkpoint.metadata.uid).get(Attempt.CREATE_REVISION)
    if refused is not None:
        return Unbound(refused.reason, f"its CheckpointRevision cannot be created: {refused}")
    return Unbound(REVISION_PENDING, "waiting for the CheckpointRevision of its Checkpoint")


def _check_parameters(
    instance: DemoInstance, checkpoint: Checkpoint, revision: CheckpointRevision
) -> Unbound | None:
    """Check the parameters of an instance against the revision that it is to be started from."""
    given = instance.spec.parameters
    problems = "; ".join(parameter_problems(revision.definition.parameters, given))
    if not problems:
        return None
    is_newest = revision.spec.identity == wanted_revision(checkpoint)
    if is_newest or parameter_problems(checkpoint.spec.parameters, given):
        next_step = "Create another DemoInstance with the right parameters"
        return Unbound(INVALID_PARAMETERS, f"{problems}. {next_step}")
    return Unbound(
        REVISION_PENDING,
        f"revision {revision.spec.number} serves and does not take its parameters ({problems}); "
        "the next revision does, so it waits until that one is built",
    )


async def _checkpoint_of(
    kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance
) -> Checkpoint | None:
    """Return the Checkpoint of an instance; None where there is none."""
    known = cluster.checkpoints.get(instance.checkpoint_key)
    if known is not None:
        return known
    # Each kind comes by a watch of its own: one that was created together with its instance may
    # not have come yet, and programs give up when they are told that there is none.
    try:
        return await kubernetes.get(Checkpoint, instance.checkpoint_key)
    except NotFoundError:
        return None


def _stalled(
    instance: DemoInstance,
    status: DemoInstanceStatus,
    stalled: ConditionStatus,
    cause: Unbound,
) -> DemoInstanceStatus:
    marked = status.with_condition(instance, "Stalled", stalled, cause.reason, cause.message)
    phase = Phase.FAILED if stalled is ConditionStatus.TRUE else Phase.PENDING
    return marked.model_copy(update={"phase": phase})
