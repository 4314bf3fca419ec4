"""A Lease (``coordination.k8s.io/v1``): who may act, and since when. Reading and writing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from kubernetes.aio import client as aio

from tryitnow.api.meta import Key
from tryitnow.kubernetes.call import TIMEOUT_SECONDS, call_api

CONTROLLER_LEASE = "tryitnow-controller"
"""Name of the Lease of the controller that acts, in the operator's namespace."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The content of a Lease. Two are equal when it was not renewed in between."""

    holder: str
    """The holder; empty when it was released."""

    duration: timedelta
    acquired: datetime
    renewed: datetime
    transitions: int
    """How often it went from one holder to another."""

    version: str = field(default="", compare=False)
    """Its resourceVersion."""


class Leases(Protocol):
    """The storage of one Lease. A write is refused when the Lease was written in between."""

    async def read(self) -> Lease:
        """Read it.

        Raises:
            NotFoundError: there is none yet.
            KubernetesError: the API server refused or did not answer.

        """

    async def create(self, lease: Lease) -> Lease:
        """Write it for the first time.

        Raises:
            ConflictError: it exists already.
            KubernetesError: the API server refused or did not answer.

        """

    async def replace(self, lease: Lease) -> Lease:
        """Write it over the one with the same version.

        Raises:
            ConflictError: it is another version by now.
            NotFoundError: it is gone.
            KubernetesError: the API server refused or did not answer.

        """


class StoredLease:
    """The Lease of one name in the cluster."""

    def __init__(self, api: aio.ApiClient, key: Key) -> None:
        self._api = aio.CoordinationV1Api(api)
        self._key = key

    async def read(self) -> Lease:
        """Read it."""
        call = self._api.read_namespaced_lease(
            self._key.name, self._key.namespace, _request_timeout=TIMEOUT_SECONDS
        )
        return _from_api(await call_api(f"get lease {self._key}", call))

    async def create(self, lease: Lease) -> Lease:
        """Write it for the first time."""
        call = self._api.create_namespaced_lease(
            self._key.namespace, self._to_api(lease), _request_timeout=TIMEOUT_SECONDS
        )
        return _from_api(await call_api(f"create lease {self._key}", call))

    async def replace(self, lease: Lease) -> Lease:
        """Write it over the one with the same version."""
        call = self._api.replace_namespaced_lease(
            self._key.name,
            self._key.namespace,
            self._to_api(lease),
            _request_timeout=TIMEOUT_SECONDS,
        )
        return _from_api(await call_api(f"renew lease {self._key}", call))

    def _to_api(self, lease: Lease) -> aio.V1Lease:
        metadata = aio.V1ObjectMeta(
            name=self._key.name,
            namespace=self._key.namespace,
            resource_version=lease.version or None,
        )
        spec = aio.V1LeaseSpec(
            holder_identity=lease.holder,
            lease_duration_seconds=int(lease.duration.total_seconds()),
            acquire_time=_micro_time(lease.acquired),
            renew_time=_micro_time(lease.renewed),
            lease_transitions=lease.transitions,
        )
        return aio.V1Lease(metadata=metadata, spec=spec)


def _micro_time(at: datetime) -> datetime:
    # A metav1.MicroTime needs its fraction; Python leaves out one of zero.
    return at if at.microsecond else at.replace(microsecond=1)


def _from_api(lease: Any) -> Lease:  # noqa: ANN401 - the client's model, every field optional
    spec = lease.spec or aio.V1LeaseSpec()
    never = lease.metadata.creation_timestamp
    return Lease(
        holder=spec.holder_identity or "",
        duration=timedelta(seconds=spec.lease_duration_seconds or 0),
        acquired=spec.acquire_time or never,
        renewed=spec.renew_time or never,
        transitions=spec.lease_transitions or 0,
        version=lease.metadata.resource_version,
    )
