"""What the controller knows of the cluster: the views that every decision is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase
from tryitnow.api.meta import Key
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.kubernetes.view import View
from tryitnow.metrics.family import Program
from tryitnow.metrics.instruments import Metrics

UNDER_WAY = frozenset({DemoInstancePhase.PENDING, DemoInstancePhase.STARTING})
"""Phases of an instance that is still to be started."""


@dataclass
class Cluster:
    """All objects that matter, as last seen."""

    checkpoints: View[Checkpoint] = field(default_factory=lambda: View(Checkpoint))
    instances: View[DemoInstance] = field(default_factory=lambda: View(DemoInstance))
    copies: View[NodeCheckpoint] = field(default_factory=lambda: View(NodeCheckpoint))
    agents: View[NodeAgent] = field(default_factory=lambda: View(NodeAgent))
    node_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    listed: bool = False
    """Whether every kind has been listed once."""

    assumed: dict[str, str] = field(default_factory=dict)
    """Node names by instance UID, of binds that are being written: they count already."""

    metrics: Metrics = field(default_factory=lambda: Metrics(Program.CONTROLLER))
    """What is counted about all of it."""

    def agent(self, node_name: str) -> NodeAgent | None:
        """Return the agent of a node."""
        return self.agents.get(Key("", node_name))

    def copies_of(self, checkpoint: Key) -> list[NodeCheckpoint]:
        """Return all copies of a Checkpoint, of all revisions."""
        return [
            copy
            for copy in self.copies
            if copy.metadata.namespace == checkpoint.namespace
            and copy.spec.checkpoint == checkpoint.name
        ]

    def instances_of(self, checkpoint: Key) -> list[DemoInstance]:
        """Return all instances of a Checkpoint."""
        return [
            instance
            for instance in self.instances
            if instance.metadata.namespace == checkpoint.namespace
            and instance.spec.checkpoint_ref.name == checkpoint.name
        ]

    def load(self) -> dict[str, int]:
        """Return the number of instances by node, those being bound included."""
        load: dict[str, int] = {}
        for instance in self.instances:
            node = instance.status.node_name or self.assumed.get(instance.metadata.uid)
            if node is not None:
                load[node] = load.get(node, 0) + 1
        return load

    def claiming(self, checkpoint: Key) -> dict[str, int]:
        """Return the number of a Checkpoint's instances by node that are bound and not up yet."""
        claiming: dict[str, int] = {}
        for instance in self.instances_of(checkpoint):
            node = instance.status.node_name or self.assumed.get(instance.metadata.uid)
            if node is not None and instance.status.phase in UNDER_WAY:
                claiming[node] = claiming.get(node, 0) + 1
        return claiming
