"""Writing the status of a DemoInstance, and reporting a refusal by the API server."""

from __future__ import annotations

import logging

from tryitnow.api.demoinstance import DemoInstance, DemoInstanceStatus
from tryitnow.api.meta import ConditionStatus, find_condition
from tryitnow.controller.cluster import Cluster
from tryitnow.controller.refusals import Attempt, noting_refusal
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.errors import ConflictError, NotFoundError, RefusedError

logger = logging.getLogger(__name__)


async def write_status(
    kubernetes: KubernetesApi,
    cluster: Cluster,
    instance: DemoInstance,
    status: DemoInstanceStatus,
    *,
    exclusive: bool = False,
) -> DemoInstance | None:
    """Write the status of an instance; None where the API server refused it.

    A refusal is said on the instance, where the API server takes that much, and in one Event. It is
    tried again with growing pauses (``cluster.refusals``).

    Args:
        kubernetes: The API server.
        cluster: All objects, as last seen.
        instance: The instance as last seen.
        status: Its whole status as it shall be.
        exclusive: Refuse when anything about the instance changed since.

    Raises:
        ConflictError: it changed since, and ``exclusive`` was asked for.
        NotFoundError: it is gone.

    """
    name, refusals = instance.metadata.name, cluster.refusals
    if not refusals.may_try(instance.metadata.uid, Attempt.STATUS, name):
        return None
    try:
        with noting_refusal(kubernetes, refusals, instance, Attempt.STATUS, name):
            written = await kubernetes.patch_status(
                instance, status.to_api(), only_if_unchanged=exclusive
            )
    except RefusedError as error:
        logger.warning("%s: %s", instance.key, error)
        await _report_refusal(kubernetes, cluster, instance, error)
        return None
    return cluster.instances.update(written)


async def _report_refusal(
    kubernetes: KubernetesApi, cluster: Cluster, instance: DemoInstance, error: RefusedError
) -> None:
    """Put the refusal into the condition Ready: the API server may accept that much."""
    ready = find_condition(instance.status.conditions, "Ready")
    if ready is not None and ready.status is ConditionStatus.TRUE:
        return  # the demo works; only its status is out of date
    message = (
        f"the API server refused the status of this DemoInstance: {error}. It is tried again from "
        "time to time; change the policy that refuses it"
    )
    reported = instance.status.with_condition(
        instance, "Ready", ConditionStatus.UNKNOWN, str(Attempt.STATUS), message
    )
    try:
        cluster.instances.update(await kubernetes.patch_status(instance, reported.to_api()))
    except (RefusedError, NotFoundError, ConflictError) as again:
        # The Event and the log have reported it; there is no other place.
        logger.warning("%s: %s", instance.key, again)
