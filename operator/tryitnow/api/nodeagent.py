"""``NodeAgent`` (internal): the report of a node's agent about itself and its node."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tryitnow.api.archive import MAX_BYTES, Versions
from tryitnow.api.meta import (
    GROUP,
    ConditionedStatus,
    Conditions,
    Count,
    Line,
    Message,
    Model,
    ObjectName,
    Resource,
    Time,
)

_Bytes = Annotated[int, Field(ge=0, le=MAX_BYTES)]

HEARTBEAT_INTERVAL = timedelta(seconds=10)
"""How often an agent reports; the kubelet's interval for its Lease."""

LOST_AFTER = timedelta(seconds=40)
"""Silence after which a node counts as lost; kube-controller-manager's
--node-monitor-grace-period was 40 s for years and leaves room for three lost reports."""


STOPPING = "Stopping"
"""Condition of an agent that is shutting down."""

LIMIT_REACHED = "LimitReached"
"""Condition of an agent whose node has no room for another demo, by what doctor found there."""

STORAGE_CHANGED = "StorageChanged"
"""Condition of an agent that found other storage, or another cluster, than before."""

CONFIRM_STORAGE_ANNOTATION = f"{GROUP}/confirm-storage"
"""A person sets it to ``status.storage.id`` to confirm the storage."""


class Verdict(StrEnum):
    """The result of a check of ``tryitnow doctor``."""

    PASS = "Pass"
    WARN = "Warn"
    FAIL = "Fail"


class Check(Model):
    """One check of ``tryitnow doctor``."""

    name: Line
    """Name of the check."""

    verdict: Verdict
    """Pass, Warn or Fail."""

    found: Message
    """Finding of the check."""

    remedy: Message = ""
    """The fix, where the check failed or warns."""


class NodeAgentSpec(Model):
    """The node of the agent."""

    node_name: ObjectName
    """Name of the node."""


class Storage(Model):
    """Identity of the node's storage and of its cluster."""

    id: Line = ""
    """Random identity of the node's storage, also in a file in the data directory and in one in
    Podman's storage."""

    cluster_uid: Line = ""
    """Identity of the cluster: the UID of its namespace kube-system."""


class NodeAgentStatus(ConditionedStatus):
    """The agent's report. Only that agent writes it."""

    heartbeat: Time | None = None
    """Time of the agent's last report."""

    conditions: Conditions = ()
    """Ready: the agent can run demos. CRIUAvailable: it can checkpoint and restore. Stopping: the
    agent is shutting down, and its node gets nothing new until an agent is back. LimitReached: the
    node has no room for another demo, and the message gives the reason. StorageChanged: the node's
    storage or its cluster has changed, and the agent starts and removes nothing until a person
    confirms it."""

    address: Line = ""
    """Address of the node in the URLs of its demos."""

    transfer_url: Annotated[str, Field(max_length=2048)] = ""
    """URL at which other agents fetch archives from this one."""

    transfer_certificate: Annotated[str, Field(max_length=16384)] = ""
    """PEM of the certificate behind transferUrl."""

    versions: Versions = Versions()
    """The software on the node."""

    capacity: Count = 0
    """Number of demos that the node can run (by its port range and MAX_INSTANCES)."""

    namespace_capacity: Count | None = None
    """Number of demos of one namespace that the node can run (by its capacity and
    NAMESPACE_SHARE). Absent where an older version of the operator reports."""

    memory_available_bytes: _Bytes = 0
    """Memory for new demos, without the reserve."""

    disk_available_bytes: _Bytes = 0
    """Free space of the checkpoint directory, minus the space that current work will take. It
    includes the reserve."""

    storage: Storage = Storage()
    """Identity of the node's storage and of its cluster, as last known."""

    disk_reserve_bytes: _Bytes = 0
    """Space of the checkpoint directory that must stay free. Below it the node gets nothing new.
    Running demos may still write."""

    checks: Annotated[tuple[Check, ...], Field(max_length=128)] = ()
    """The results of `tryitnow doctor` on the node."""


class NodeAgent(Resource):
    """The agent of a node: its health, the findings of doctor, and its free capacity."""

    kind_name: ClassVar[str] = "NodeAgent"
    plural: ClassVar[str] = "nodeagents"
    namespaced: ClassVar[bool] = False

    kind: Literal["NodeAgent"] = "NodeAgent"

    spec: NodeAgentSpec
    """The node of the agent."""

    status: NodeAgentStatus = NodeAgentStatus()
    """The agent's report."""

    def _holds(self, condition: str) -> bool:
        return any(c.type == condition and c.status == "True" for c in self.status.conditions)

    @property
    def is_fit(self) -> bool:
        """Whether instances can run on the node, by the agent's last report."""
        return self._holds("Ready") and not self.is_deleting

    @property
    def has_criu(self) -> bool:
        """Whether the node can checkpoint and restore, by the agent's last report."""
        return self._holds("CRIUAvailable")

    @property
    def has_reached_limit(self) -> bool:
        """Whether doctor found no room for another demo, by the agent's last report."""
        return self._holds(LIMIT_REACHED)

    @property
    def has_other_storage(self) -> bool:
        """Whether the node's storage waits for a person who confirms it."""
        return self._holds(STORAGE_CHANGED)

    @property
    def is_stopping(self) -> bool:
        """Whether the agent is shutting down."""
        return self._holds(STOPPING)

    # For people: these compare the node's clock with the caller's, and the two may differ. The
    # controller measures the silence of an agent itself (controller/agents.py).

    def is_lost(self, at: datetime) -> bool:
        """Whether the agent has been silent for too long."""
        return self.status.heartbeat is None or at - self.status.heartbeat > LOST_AFTER

    def can_run(self, at: datetime) -> bool:
        """Whether demos can run on the node."""
        return self.is_fit and not self.is_lost(at)

    def can_take(self, at: datetime) -> bool:
        """Whether the agent can be given something new to do."""
        return self.can_run(at) and not self.is_stopping

    def can_restore(self, at: datetime) -> bool:
        """Whether the node can checkpoint and restore."""
        return self.can_run(at) and self.has_criu
