"""The controller's knowledge of the cluster: the stores behind every decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tryitnow.api.checkpoint import Checkpoint, Lifetimes
from tryitnow.api.checkpointrevision import CheckpointRevision, checkpoint_revision_name
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.api.node import ClusterNode, Toleration
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.controller.agents import AgentStore
from tryitnow.controller.nodes import ARCHITECTURE, NodeState, has_labels
from tryitnow.controller.references import Consistent, References, checkpoint_of
from tryitnow.controller.refusals import Refusals
from tryitnow.controller.usage import (
    FILLING_DISK,
    UNDER_WAY,
    Largest,
    Settling,
    Usage,
    archive_disk_bytes,
    is_starting,
    memory_bytes,
)
from tryitnow.kubernetes.objects import UnreadableObject
from tryitnow.kubernetes.store import Index, Store
from tryitnow.metrics.family import Program
from tryitnow.metrics.instruments import Metrics


@dataclass(frozen=True)
class _Assumed:
    node: str
    checkpoint: Key
    revision: Key


@dataclass
class Cluster:
    """All objects that matter, as last seen, with their counts."""

    checkpoints: Store[Checkpoint] = field(default_factory=lambda: Store(Checkpoint))
    instances: Store[DemoInstance] = field(default_factory=lambda: Store(DemoInstance))
    node_checkpoints: Store[NodeCheckpoint] = field(default_factory=lambda: Store(NodeCheckpoint))
    revisions: Store[CheckpointRevision] = field(default_factory=lambda: Store(CheckpointRevision))
    releasing: set[str] = field(default_factory=set)
    """UIDs of the CheckpointRevisions that are being deleted: nothing new may refer to them."""

    agents: AgentStore = field(default_factory=AgentStore)
    nodes: Store[ClusterNode] = field(default_factory=lambda: Store(ClusterNode))
    tolerations: tuple[Toleration, ...] = ()
    """Taints that the agents bear."""

    builder_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that may build."""

    transfer_port: int = 9443
    """Port that agents serve archives on."""

    end_lost_after: timedelta | None = None
    """How long a node may be lost before its demos are deleted; None for ever."""

    listed: bool = False
    """Whether every kind has been listed once."""

    refusals: Refusals = field(default_factory=Refusals)
    """Writes that the API server refused."""

    metrics: Metrics = field(default_factory=lambda: Metrics(Program.CONTROLLER))
    """The controller's metrics."""

    def __post_init__(self) -> None:
        """Keep the indices that decisions ask for."""
        self._node_checkpoints_of: Index[NodeCheckpoint, Key] = self.node_checkpoints.followed_by(
            Index(lambda node_checkpoint: [node_checkpoint.checkpoint_key])
        )
        self._node_checkpoints_on: Index[NodeCheckpoint, str] = self.node_checkpoints.followed_by(
            Index(lambda node_checkpoint: [node_checkpoint.spec.node_name])
        )
        self._node_checkpoints_at: Index[NodeCheckpoint, tuple[str, Key]] = (
            self.node_checkpoints.followed_by(
                Index(
                    lambda node_checkpoint: [
                        (node_checkpoint.spec.node_name, node_checkpoint.checkpoint_key)
                    ]
                )
            )
        )
        self._memory_bytes: Largest[NodeCheckpoint, Key] = self.node_checkpoints.followed_by(
            Largest(lambda node_checkpoint: node_checkpoint.checkpoint_key, memory_bytes)
        )
        self._disk_bytes: Largest[NodeCheckpoint, Key] = self.node_checkpoints.followed_by(
            Largest(
                lambda node_checkpoint: node_checkpoint.checkpoint_key,
                lambda node_checkpoint: node_checkpoint.status.disk_bytes,
            )
        )
        self._instances_on: Index[DemoInstance, str] = self.instances.followed_by(
            Index(lambda each: [each.status.node_name] if each.status.node_name else [])
        )
        self._instances_of: Index[DemoInstance, tuple[str, str]] = self.instances.followed_by(
            Index(
                lambda each: (
                    [(each.status.node_name, each.metadata.namespace)]
                    if each.status.node_name
                    else []
                )
            )
        )
        self._under_way_on: Index[DemoInstance, str] = self.instances.followed_by(
            Index(lambda each: [each.status.node_name or ""] if _is_under_way(each) else [])
        )
        self._under_way_of: Index[DemoInstance, Key] = self.instances.followed_by(
            Index(lambda each: [each.checkpoint_key] if _is_under_way(each) else [])
        )
        self._waiting_for: Index[DemoInstance, Key] = self.instances.followed_by(
            Index(lambda each: [each.checkpoint_key] if each.status.node_name is None else [])
        )
        self._bound_of: Index[DemoInstance, Key] = self.instances.followed_by(
            Index(lambda each: [each.checkpoint_key] if each.status.node_name else [])
        )
        self._revisions_of: Index[CheckpointRevision, Key] = self.revisions.followed_by(
            Index(lambda revision: [revision.checkpoint_key])
        )
        self._consistent: Consistent = self.revisions.followed_by(Consistent())
        self._references = References(self.instances, self.node_checkpoints)
        self._settling: Settling = self.instances.followed_by(Settling(self.agents))
        self._assumed: dict[Key, _Assumed] = {}
        self._lost_since: dict[str, float] = {}
        self.checkpoints.followed_by(self.refusals)
        self.instances.followed_by(self.refusals)
        self.node_checkpoints.followed_by(self.refusals)
        self.revisions.followed_by(self.refusals)

    # -- nodes ------------------------------------------------------------------------------------

    def node_states(self) -> list[NodeState]:
        """Return all nodes that have an agent, as they are at this moment."""
        return [self._state_of(agent.metadata.name) for agent in self.agents]

    def _state_of(self, node: str) -> NodeState:
        key = Key("", node)
        agent = self.agents.get(key)
        assert agent is not None
        found = self.nodes.get(key)
        return NodeState(
            agent=agent,
            node=found,
            is_lost=self.agents.is_lost(key),
            reserved_disk_bytes=self._reserved_disk_bytes(node),
            tolerations=self.tolerations,
            may_build=found is not None and has_labels(found, self.builder_selector),
            transfer_port=self.transfer_port,
        )

    def is_lost(self, node: str) -> bool:
        """Whether no agent on that node can be expected to act."""
        key = Key("", node)
        is_there = self.nodes.get(key) is not None or self.nodes.unreadable(key) is not None
        return not is_there or self.agents.is_lost(key)

    def lost_for(self, node: str) -> timedelta:
        """Return for how long a node has been lost, as far as this controller has seen it.

        By its own monotonic clock: no clock that is set ends a demo. A controller that is started
        anew counts from then on.
        """
        if not self.is_lost(node):
            self._lost_since.pop(node, None)
            return timedelta()
        now = self.agents.seconds()
        return timedelta(seconds=now - self._lost_since.setdefault(node, now))

    def architectures(self) -> dict[str, str | None]:
        """Return all nodes of the cluster, and the architecture of each, as far as it is known."""
        known = {node.metadata.name: node.metadata.labels.get(ARCHITECTURE) for node in self.nodes}
        unreadable = {each.metadata.name: None for each in self.nodes.all_unreadable()}
        return {**unreadable, **known}

    def holding_nodes(self) -> set[str]:
        """Return the names of the nodes that are to hold or to run something."""
        unreadable = [node for _, node in self._unreadable()]
        return {*self._node_checkpoints_on.entries(), *self._instances_on.entries(), *unreadable}

    def unreadable_on(self, node: str) -> list[UnreadableObject[Any]]:
        """Return the objects of a node that do not fit our models."""
        return [each for each, its_node in self._unreadable() if its_node == node]

    def _unreadable(self) -> Iterator[tuple[UnreadableObject[Any], str]]:
        for instance in self.instances.all_unreadable():
            if node := instance.text_at("status", "nodeName"):
                yield instance, node
        for node_checkpoint in self.node_checkpoints.all_unreadable():
            if node := node_checkpoint.text_at("spec", "nodeName"):
                yield node_checkpoint, node

    # -- NodeCheckpoints --------------------------------------------------------------------------

    def node_checkpoints_of(self, checkpoint: Key) -> list[NodeCheckpoint]:
        """Return all NodeCheckpoints of a Checkpoint, of all revisions."""
        return self._node_checkpoints_of.get(checkpoint)

    def node_checkpoints_on(self, node: str) -> list[NodeCheckpoint]:
        """Return all NodeCheckpoints on a node."""
        return self._node_checkpoints_on.get(node)

    # -- CheckpointRevisions ----------------------------------------------------------------------

    def revisions_of(self, checkpoint: Key) -> dict[str, CheckpointRevision]:
        """Return the revisions of a Checkpoint that something new may refer to, by identity."""
        return {
            revision.spec.identity: revision
            for revision in self._revisions_of.get(checkpoint)
            if revision.key in self._consistent and revision.metadata.uid not in self.releasing
        }

    def all_revisions_of(self, checkpoint: Key) -> list[CheckpointRevision | UnreadableObject[Any]]:
        """Return all revisions of a Checkpoint, also those that do not fit our model."""
        unreadable = [
            each for each in self.revisions.all_unreadable() if checkpoint_of(each) == checkpoint
        ]
        return [*self._revisions_of.get(checkpoint), *unreadable]

    def checkpoints_with_revisions(self) -> set[Key]:
        """Return the Checkpoints, there or gone, that have revisions."""
        unreadable = {checkpoint_of(each) for each in self.revisions.all_unreadable()}
        return {*self._revisions_of.entries(), *unreadable}

    def is_referred_to(self, revision: Key) -> bool:
        """Whether a demo or a NodeCheckpoint refers to a revision, or a demo is about to."""
        assumed = (each.revision for each in self._assumed.values())
        return self._references.has(revision) or revision in assumed

    # -- instances --------------------------------------------------------------------------------

    def instances_on(self, node: str) -> list[DemoInstance]:
        """Return all instances that are bound to a node."""
        return self._instances_on.get(node)

    def waiting_for(self, checkpoint: Key) -> list[DemoInstance]:
        """Return the instances of a Checkpoint that are not bound yet, the oldest first."""
        return sorted(self._waiting_for.get(checkpoint), key=_age)

    def running_of(self, checkpoint: Key) -> int:
        """Return the number of instances of a Checkpoint that are bound, or are being bound."""
        assumed = (
            key
            for key, each in self._assumed.items()
            if each.checkpoint == checkpoint and not self._is_bound(key)
        )
        return self._bound_of.count(checkpoint) + sum(1 for _ in assumed)

    def lifetimes_of(self, instance: DemoInstance) -> Lifetimes:
        """Return the limits of an instance's lifetime: its own once it is bound."""
        if instance.status.node_name is not None:
            return instance.status.lifetimes or Lifetimes()
        checkpoint = self.checkpoints.get(instance.checkpoint_key)
        return checkpoint.spec.limits if checkpoint is not None else Lifetimes()

    def expires_at(self, instance: DemoInstance) -> datetime | None:
        """Return the moment from which an instance is to be deleted; None where it has no end."""
        return instance.expires_at(self.lifetimes_of(instance))

    def under_way_of(self, checkpoint: Key) -> list[DemoInstance]:
        """Return the instances of a Checkpoint that are bound and still to be started."""
        return self._under_way_of.get(checkpoint)

    def assume(self, instance: DemoInstance, node: str, identity: str) -> None:
        """Count an instance as bound to a node and a revision while that is being written."""
        checkpoint = instance.checkpoint_key
        name = checkpoint_revision_name(checkpoint.name, identity)
        revision = Key(checkpoint.namespace, name)
        self._assumed[instance.key] = _Assumed(node, checkpoint, revision)

    def settle(self, instance: DemoInstance) -> None:
        """Count an instance as it is stored again: its bind was written, or was not."""
        self._assumed.pop(instance.key, None)

    # -- usage of the nodes -----------------------------------------------------------------------

    def load(self, node: str) -> int:
        """Return the number of instances that are bound to a node, or are being bound."""
        return self._instances_on.count(node) + len(self._assumed_on(node))

    def usage(self, checkpoint: Key, nodes: Iterable[str]) -> Usage:
        """Return how much of these nodes is given away, as an instance of a Checkpoint sees it."""
        instances, of_namespace, claiming, reserved, warm = {}, {}, {}, {}, {}
        for node in nodes:
            assumed = self._assumed_on(node)
            instances[node] = self._instances_on.count(node) + len(assumed)
            namespaces = [each.namespace for each in assumed]
            of_namespace[node] = self._instances_of.count(
                (node, checkpoint.namespace)
            ) + namespaces.count(checkpoint.namespace)
            under_way = [each.checkpoint_key for each in self._under_way_on.get(node)]
            claiming[node] = [*under_way, *assumed].count(checkpoint)
            reserved[node] = self._reserved_bytes(node)
            warm[node] = self._warm_bytes(node, Counter([*under_way, *assumed]))
        return Usage(instances, claiming, reserved, warm, of_namespace)

    def _assumed_on(self, node: str) -> list[Key]:
        return [
            assumed.checkpoint
            for key, assumed in self._assumed.items()
            if assumed.node == node and not self._is_bound(key)
        ]

    def _is_bound(self, key: Key) -> bool:
        # The watch may tell of a bind before the answer to its writing comes.
        known = self.instances.get(key)
        return known is None or known.status.node_name is not None

    def _restoring(self, node: str) -> Counter[Key]:
        """Return how many instances of each Checkpoint are being started that no warm one serves.

        An instance that claims a warm sandbox fills no further memory.
        """
        starting = Counter(
            each.checkpoint_key for each in self._under_way_on.get(node) if is_starting(each)
        )
        starting.update(self._assumed_on(node))
        for owner in starting:
            node_checkpoints = self._node_checkpoints_at.get((node, owner))
            starting[owner] -= sum(
                node_checkpoint.status.warm_ready for node_checkpoint in node_checkpoints
            )
        return +starting

    def _filling(self, node: str) -> Counter[Key]:
        """Return how many of each Checkpoint fill the node without its agent's knowing yet."""
        filling = self._restoring(node)
        filling.update(self._settling.on(node))
        return filling

    def _warm_bytes(self, node: str, claiming: Counter[Key]) -> int:
        """Return the memory of the warm sandboxes that no instance on its way may claim."""
        waiting: Counter[Key] = Counter()
        for node_checkpoint in self._node_checkpoints_on.get(node):
            waiting[node_checkpoint.checkpoint_key] += node_checkpoint.status.warm_ready
        unclaimed = waiting - claiming
        return sum(number * self._memory_bytes.get(owner) for owner, number in unclaimed.items())

    def _reserved_bytes(self, node: str) -> int:
        filling = self._filling(node)
        return sum(number * self._memory_bytes.get(owner) for owner, number in filling.items())

    def _reserved_disk_bytes(self, node: str) -> int:
        fetching = sum(
            archive_disk_bytes(node_checkpoint.spec.fetch.archive)
            for node_checkpoint in self._node_checkpoints_on.get(node)
            if node_checkpoint.spec.fetch is not None
            and node_checkpoint.status.phase in FILLING_DISK
        )
        filling = self._filling(node)
        return fetching + sum(
            number * self._disk_bytes.get(owner) for owner, number in filling.items()
        )


def _age(instance: DemoInstance) -> tuple[bool, datetime | None, str]:
    created = instance.metadata.creation_timestamp
    return created is None, created, instance.metadata.name


def _is_under_way(instance: DemoInstance) -> bool:
    return instance.status.node_name is not None and instance.status.phase in UNDER_WAY
