"""What the controller knows of the cluster: the views that every decision is made from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, StartedBy
from tryitnow.api.meta import Key, find_condition
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.agents import AgentStore
from tryitnow.controller.bind import Taken
from tryitnow.kubernetes.store import Store
from tryitnow.metrics.family import Program
from tryitnow.metrics.instruments import Metrics

BOUND = "Bound"
"""Reason of the condition Ready from the bind until the agent has something to say."""

UNDER_WAY = frozenset({DemoInstancePhase.PENDING, DemoInstancePhase.STARTING})
"""Phases of an instance that is still to be started."""


@dataclass
class Cluster:
    """All objects that matter, as last seen."""

    checkpoints: Store[Checkpoint] = field(default_factory=lambda: Store(Checkpoint))
    instances: Store[DemoInstance] = field(default_factory=lambda: Store(DemoInstance))
    copies: Store[NodeCheckpoint] = field(default_factory=lambda: Store(NodeCheckpoint))
    revisions: Store[CheckpointRevision] = field(default_factory=lambda: Store(CheckpointRevision))
    agents: AgentStore = field(default_factory=AgentStore)
    node_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    cordoned: frozenset[str] = frozenset()
    """Names of the nodes that get nothing new (``spec.unschedulable``)."""

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
        return [copy for copy in self.copies if copy.checkpoint_key == checkpoint]

    def revisions_of(self, checkpoint: Key) -> list[CheckpointRevision]:
        """Return all revisions of a Checkpoint."""
        return [revision for revision in self.revisions if revision.checkpoint_key == checkpoint]

    def instances_of(self, checkpoint: Key) -> list[DemoInstance]:
        """Return all instances of a Checkpoint."""
        return [each for each in self.instances if each.checkpoint_key == checkpoint]

    def node_of(self, instance: DemoInstance) -> str | None:
        """Return the node that an instance is bound to, or is being bound to."""
        return instance.status.node_name or self.assumed.get(instance.metadata.uid)

    def load(self) -> Counter[str]:
        """Return the number of instances by node."""
        return Counter(node for each in self.instances if (node := self.node_of(each)) is not None)

    def taken(self, checkpoint: Key) -> Taken:
        """Return what of the nodes is given away before an instance of this Checkpoint comes."""
        starting: Counter[tuple[str, Key]] = Counter()
        claiming: Counter[str] = Counter()
        promised: Counter[str] = Counter()
        size, warm = self._memory_bytes(), self._warm()
        for instance in self.instances:
            node = self.node_of(instance)
            if node is None:
                continue
            owner = instance.checkpoint_key
            under_way = instance.status.phase in UNDER_WAY
            if under_way and owner == checkpoint:
                claiming[node] += 1
            if under_way and not _waits(instance):
                starting[node, owner] += 1
            elif self._is_unknown(node, instance):
                promised[node] += size.get(owner, 0)
        for (node, owner), number in starting.items():
            # Those that find a warm copy fill no more than that does.
            thawing = max(0, number - warm[node, owner])
            promised[node] += thawing * size.get(owner, 0)
        return Taken(self.load(), claiming, promised, self.cordoned)

    def _memory_bytes(self) -> dict[Key, int]:
        """Return what a copy of each Checkpoint fills of a node's memory."""
        size: dict[Key, int] = {}
        for copy in self.copies:
            owner = copy.checkpoint_key
            size[owner] = max(size.get(owner, 0), copy.status.memory_bytes)
        return size

    def _warm(self) -> Counter[tuple[str, Key]]:
        """Return how many warm copies wait, by node and Checkpoint."""
        warm: Counter[tuple[str, Key]] = Counter()
        for copy in self.copies:
            owner = copy.checkpoint_key
            warm[copy.spec.node_name, owner] += copy.status.warm_ready
        return warm

    def _is_unknown(self, node: str, instance: DemoInstance) -> bool:
        """Whether the memory that an agent last reported free was measured before this filled it.

        A copy that had been waiting filled it long before.
        """
        status, told = instance.status, self.agents.told(Key("", node))
        if status.ready_at is None or status.started_by is StartedBy.WARM:
            return False
        # Both by the clock of the node.
        return told is None or told <= status.ready_at


def _waits(instance: DemoInstance) -> bool:
    """Whether an instance that is bound is not being started: its agent waits for something."""
    ready = find_condition(instance.status.conditions, "Ready")
    return instance.status.node_name is not None and ready is not None and ready.reason != BOUND
