"""The end of an instance's time to live, by the API server's clock."""

from __future__ import annotations

import logging
from datetime import timedelta

from tryitnow.api.demoinstance import DemoInstance
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.refusals import Attempt, noting_refusal
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ConflictError, NotFoundError, RefusedError
from tryitnow.metrics.cluster import EXPIRED

logger = logging.getLogger(__name__)

RECHECK_INTERVAL = timedelta(seconds=10)
"""For an instance whose time seems to be over while the clocks disagree."""


MAX_TRIES = 3
"""At an instance that changes while it is to be deleted, before it is left for a while."""


async def expire(kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance) -> bool:
    """Delete an instance whose time is over; returns whether it is over.

    A ttl that was extended a moment ago wins, also before its watch event comes: the API server
    deletes the instance only in the version that was seen. After a conflict the newest version
    decides.

    Raises:
        ConflictError: it changes faster than it can be read.

    """
    for _ in range(MAX_TRIES):
        expires_at = cluster.expires_at(instance)
        if expires_at is None or not kubernetes.clock.has_passed(expires_at):
            return False
        name, refusals = instance.metadata.name, cluster.refusals
        if not refusals.may_try(instance.metadata.uid, Attempt.EXPIRE, name):
            return True
        try:
            with noting_refusal(kubernetes, refusals, instance, Attempt.EXPIRE, name):
                is_ours = await kubernetes.delete(instance, only_if_unchanged=True)
        except RefusedError as error:
            logger.warning("%s: %s", instance.key, error)
            return True
        except ConflictError:
            try:
                newest = await kubernetes.get(DemoInstance, instance.key)
            except NotFoundError:
                return True
            instance = cluster.instances.update(newest)
            continue
        if is_ours:
            kubernetes.event(instance, "Expired", f"its ttl ended at {expires_at:%H:%M:%S} UTC")
            logger.info("%s: expired", instance.key)
            cluster.metrics.count(EXPIRED)
        return True
    msg = f"{instance.key} changes faster than it can be deleted at the end of its ttl"
    raise ConflictError(msg)


def expiry_check(
    kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance
) -> timedelta | None:
    """Return the pause until the next check of an instance's ttl; None where it has none."""
    expires_at = cluster.expires_at(instance)
    if expires_at is None:
        return None
    left = expires_at - kubernetes.clock.now()
    return left if left > timedelta() else RECHECK_INTERVAL
