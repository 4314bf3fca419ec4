"""This node: its tools, put together once, and its two views of the cluster.

``main``, ``handlers`` and ``upkeep`` work with the whole of it; all other rooms get the narrow
object that they need.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from tryitnow.agent.checkpoints.registry import CheckpointRegistry
from tryitnow.agent.demos.tools import DemoTools
from tryitnow.agent.health import LastHealth
from tryitnow.agent.sandbox.lifecycle import Sandboxes
from tryitnow.agent.storage.archives import ArchiveStore
from tryitnow.agent.storage.generations import GenerationStore
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.agent.storage.ports import PortRange
from tryitnow.agent.storage.trash import Trash
from tryitnow.agent.storage.volumes import VolumeStore
from tryitnow.agent.upkeep.orphans import Suspects
from tryitnow.agent.upkeep.storage_guard import StorageGuard
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.store import Store
from tryitnow.metrics.instruments import Metrics
from tryitnow.podman.client import Podman
from tryitnow.settings import AgentSettings


@dataclass
class AllSuspects:
    """What seems to belong to nobody, by kind."""

    sandboxes: Suspects
    pods: Suspects
    files: Suspects
    images: Suspects
    processes: Suspects
    ports: Suspects
    trash: Suspects

    @classmethod
    def with_grace(
        cls,
        grace: timedelta,
        trash_retention: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> AllSuspects:
        """Suspect nothing yet."""

        def suspects(period: timedelta) -> Suspects:
            return Suspects(period.total_seconds(), clock)

        return cls(
            sandboxes=suspects(grace),
            pods=suspects(grace),
            files=suspects(grace),
            images=suspects(timedelta()),
            processes=suspects(timedelta()),
            ports=suspects(timedelta()),
            trash=suspects(trash_retention),
        )

    def forget(self) -> None:
        """Suspect nothing any more."""
        for suspects in (
            self.sandboxes,
            self.pods,
            self.files,
            self.images,
            self.ports,
            self.trash,
        ):
            suspects.forget()


@dataclass
class Node:
    """All of this node."""

    settings: AgentSettings
    kubernetes: KubernetesApi
    podman: Podman
    archives: ArchiveStore
    generations: GenerationStore
    volumes: VolumeStore
    trash: Trash
    ports: PortRange
    disk: Ledger
    memory: Ledger
    sandboxes: Sandboxes
    health: LastHealth
    guard: StorageGuard
    checkpoints: CheckpointRegistry
    demo_tools: DemoTools
    metrics: Metrics
    suspects: AllSuspects
    demos: Store[DemoInstance]
    node_checkpoints: Store[NodeCheckpoint]
    queue_demo: Callable[[Key], None] = field(default=lambda _: None)
    """Has a demo looked at."""

    listed: bool = False
    """Whether both kinds have been listed once."""

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.settings.node_name
