"""Kubernetes' own Nodes, as far as we read them: labels, taints, cordons and conditions."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from tryitnow.api.meta import Model, Resource
from tryitnow.api.quantity import parse_quantity

STATE_TAINTS = "node.kubernetes.io/"
"""Taints that Kubernetes itself puts on a node for its state. DaemonSets tolerate most of them, so
an agent runs on through a shortage. Its node still gets nothing new."""

CLOSING_EFFECTS = frozenset({"NoSchedule", "NoExecute"})


class Taint(Model):
    """A mark that keeps Pods away from a node."""

    key: str
    value: str = ""
    effect: str

    def __str__(self) -> str:
        pair = f"{self.key}={self.value}" if self.value else self.key
        return f"{pair}:{self.effect}"


class Toleration(Model):
    """A taint that Pods bear (``tolerations`` of a Pod)."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: str = ""

    def bears(self, taint: Taint) -> bool:
        """Whether a Pod with this toleration may run on a node with the taint.

        Source of the rules: Kubernetes' documentation, "Taints and Tolerations".
        """
        if self.effect and self.effect != taint.effect:
            return False
        if not self.key:
            return self.operator == "Exists"
        return self.key == taint.key and (self.operator == "Exists" or self.value == taint.value)


class NodeCondition(Model):
    """One aspect of a node's state, such as Ready or DiskPressure."""

    type: str
    status: str


class NodeAddress(Model):
    """An address at which a node is reached."""

    type: str
    address: str


class NodeSpec(Model):
    """The administrator's wishes for a node."""

    unschedulable: bool = False
    """Whether it is cordoned."""

    taints: tuple[Taint, ...] = ()


class NodeStatus(Model):
    """Findings of the kubelet and of the node controller."""

    conditions: tuple[NodeCondition, ...] = ()
    addresses: tuple[NodeAddress, ...] = ()
    allocatable: dict[str, str] = Field(default={})
    """What the kubelet gives to Pods, as quantities by resource."""


class ClusterNode(Resource):
    """A Node of the cluster, whether an agent of ours runs there or not."""

    kind_name: ClassVar[str] = "Node"
    plural: ClassVar[str] = "nodes"
    namespaced: ClassVar[bool] = False
    api_path: ClassVar[str] = "/api/v1"

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The node's own addresses: one of them is the ``status.hostIP`` of its Pods."""
        by_type = {
            wanted: tuple(a.address for a in self.status.addresses if a.type == wanted)
            for wanted in ("InternalIP", "ExternalIP")
        }
        return by_type["InternalIP"] or by_type["ExternalIP"]

    @property
    def allocatable_memory_bytes(self) -> int | None:
        """Memory that Pods may have there; None where its kubelet does not say it."""
        try:
            return int(parse_quantity(self.status.allocatable.get("memory", "")))
        except ValueError:
            return None

    def closed_by(self, tolerations: tuple[Toleration, ...] = ()) -> str:
        """Say why nothing new shall be given to the node; empty where it is open.

        Args:
            tolerations: Taints that the agents bear by their chart's values. Such a taint keeps its
                node for demos.

        """
        if self.spec.unschedulable:
            return "is cordoned"
        held = {condition.type: condition.status for condition in self.status.conditions}
        if held.get("Ready", "True") != "True":
            return "is NotReady"
        for pressure in ("DiskPressure", "MemoryPressure", "PIDPressure"):
            if held.get(pressure) == "True":
                return f"has {pressure}"
        for taint in self.spec.taints:
            if taint.effect not in CLOSING_EFFECTS:
                continue
            if taint.key.startswith(STATE_TAINTS):
                return f"has the taint {taint}"
            if not any(toleration.bears(taint) for toleration in tolerations):
                return f"has the taint {taint}, which agents do not tolerate"
        return ""
