"""The nodes as decisions see them: their abilities, and why one gets nothing new."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tryitnow.api.archive import Archive
from tryitnow.api.checkpoint import Distribution
from tryitnow.api.node import ClusterNode, Toleration
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.processor import named
from tryitnow.settings import transfer_url

ARCHITECTURE = "kubernetes.io/arch"
"""Label that the kubelet puts on its Node (Kubernetes' well-known labels)."""


@dataclass(frozen=True)
class NodeState:
    """A node with an agent, at one moment."""

    agent: NodeAgent
    node: ClusterNode | None
    """None where the cluster has no such node any more."""

    is_lost: bool = False
    """Whether nothing was heard of the agent for too long."""

    reserved_disk_bytes: int = 0
    """Disk that work under way will take of which the agent's last report does not know."""

    tolerations: tuple[Toleration, ...] = ()
    """Taints that agents bear."""

    may_build: bool = True
    """Whether an administrator has the node build (``controller.builderSelector``)."""

    transfer_port: int = 9443
    """Port that agents serve archives on."""

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.agent.metadata.name

    @property
    def can_run(self) -> bool:
        """Whether demos can run there."""
        return self.agent.is_fit and not self.is_lost

    @property
    def can_restore(self) -> bool:
        """Whether the node can checkpoint and restore."""
        return self.can_run and self.agent.has_criu

    def processor_shortage(self, archive: Archive | None) -> str:
        """Say what the node's processor lacks for an archive; empty where nothing is known of it.

        The test restore on the node decides about all else.
        """
        if archive is None:
            return ""
        missing = self.agent.status.versions.missing_for(archive.versions)
        return f"its processor lacks {named(missing)}" if missing else ""

    @property
    def memory_available_bytes(self) -> int:
        """Memory for new demos: as much as the agent says, but no more than its Node gives to Pods.

        Agents decide by what they say where demos go: one that lies gains no more than its node.
        """
        reported = self.agent.status.memory_available_bytes
        most = self.node.allocatable_memory_bytes if self.node is not None else None
        return reported if most is None else min(reported, most)

    @property
    def transfer_url(self) -> str:
        """URL at which other agents fetch archives; empty unless it is at the Node's own address.

        Agents are sent there: an agent that could name any URL would send them anywhere.
        """
        addresses = self.node.addresses if self.node is not None else ()
        own = {transfer_url(address, self.transfer_port) for address in addresses}
        reported = self.agent.status.transfer_url
        return reported if reported in own else ""

    @property
    def has_foreign_url(self) -> bool:
        """Whether the agent names another place than its Node's own address."""
        return bool(self.agent.status.transfer_url) and not self.transfer_url

    @property
    def lastingly_closed_reason(self) -> str:
        """Say why nothing new goes to the node until somebody acts; empty where it may.

        A node whose agent is silent or not ready may be back at any moment.
        """
        if self.agent.has_other_storage:
            return "waits until a person confirms its storage"
        return self.node.closed_by(self.tolerations) if self.node else "is not in the cluster"

    def closed_reason(self, disk_bytes: int | None = None) -> str:
        """Say why nothing new is given to the node; empty where it is open.

        The status of each waiting object repeats it, so it must not change from moment to moment.

        Args:
            disk_bytes: Disk that the new object takes, as far as that is known; None leaves the
                disk out.

        """
        if self.is_lost:
            return "is silent"
        if closed := self.lastingly_closed_reason:
            return closed
        if not self.agent.is_fit:
            return "is not ready"
        if self.agent.is_stopping:
            return "has an agent that is stopping"
        if self.agent.has_reached_limit:
            return f"has reached a limit (`kubectl describe nodeagent {self.name}`)"
        return "" if disk_bytes is None else self.disk_shortage(disk_bytes)

    def disk_shortage(self, disk_bytes: int = 0) -> str:
        """Say that the node's disk has no room for so much; empty where it has."""
        status = self.agent.status
        free_bytes = status.disk_available_bytes - self.reserved_disk_bytes
        if free_bytes > 0 and free_bytes >= disk_bytes + status.disk_reserve_bytes:
            return ""
        reserve = status.disk_reserve_bytes
        is_too_large = disk_bytes >> 20 and free_bytes >= reserve
        needed = f"it needs {_mib(disk_bytes)}" if is_too_large else ""
        kept = f"{_mib(reserve)} of it must stay free" if reserve else ""
        why = " and ".join(part for part in (needed, kept) if part)
        return f"is short of disk: {why}" if why else "is short of disk"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"


def selected(distribution: Distribution, nodes: Iterable[NodeState]) -> list[NodeState]:
    """Return the nodes that the node selector picks, healthy or not."""
    return [
        state
        for state in nodes
        if state.node is not None
        and not state.agent.is_deleting
        and has_labels(state.node, distribution.node_selector)
    ]


def has_labels(node: ClusterNode, wanted: Mapping[str, str]) -> bool:
    """Whether a Node has all of these labels."""
    return all(node.metadata.labels.get(key) == value for key, value in wanted.items())


def preference(seed: str, node_name: str) -> str:
    """Return a sort key that spreads different checkpoints over the nodes, the same each time.

    Rendezvous hashing: when a node comes or goes, the others keep what they hold.
    """
    return hashlib.sha256(f"{seed}/{node_name}".encode()).hexdigest()
