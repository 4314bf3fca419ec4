"""What the agent works with on its node, in one place, handed to every step."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

from tryitnow.agent.archive import ArchiveName, ArchiveStore, Signature
from tryitnow.agent.backoff import Backoff
from tryitnow.agent.pool import Pool, Slot, WarmCopy
from tryitnow.agent.ports import PortRange
from tryitnow.agent.prepared import DataStore, Prepared
from tryitnow.agent.turns import Turns
from tryitnow.agent.volumes import VolumeStore
from tryitnow.api.checkpoint import Archive, Versions
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.api.nodeagent import Check
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.api.template import ResourceLimits
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.store import Store
from tryitnow.metrics.family import Program
from tryitnow.metrics.instruments import Metrics
from tryitnow.podman.client import Podman
from tryitnow.settings import AgentSettings


@dataclass
class Health:
    """What doctor found on this node, at the agent's start and from time to time since."""

    can_run: bool = False
    can_run_message: str = "the node has not been examined yet"
    criu_available: bool = False
    criu_message: str = "the node has not been examined yet"
    checks: tuple[Check, ...] = ()
    versions: Versions = field(default_factory=Versions)
    controllers: frozenset[str] = frozenset()
    """Controllers of the node's cgroups, such as memory: without one its limits cannot hold."""

    def enforceable(self, limits: ResourceLimits) -> ResourceLimits:
        """Return those limits that the node's cgroups can hold."""
        held = {
            field: value for field, value in limits if field in self.controllers or value is None
        }
        return ResourceLimits(**held)


BUILDS_AT_ONCE = 2


@dataclass(frozen=True)
class Checked:
    """An archive whose digest was right."""

    signature: Signature
    at: float
    """Monotonic time in seconds."""


@dataclass
class Node:
    """This node: its settings, its tools, and what it was told to hold and to run."""

    settings: AgentSettings
    kubernetes: KubernetesApi
    podman: Podman
    archives: ArchiveStore
    data: DataStore
    volumes: VolumeStore
    ports: PortRange
    http: aiohttp.ClientSession
    metrics: Metrics = field(default_factory=lambda: Metrics(Program.AGENT))
    health: Health = field(default_factory=Health)
    instances: Store[DemoInstance] = field(default_factory=lambda: Store(DemoInstance))
    copies: Store[NodeCheckpoint] = field(default_factory=lambda: Store(NodeCheckpoint))
    listed: bool = False
    """Whether both kinds have been listed once."""

    backoff: Backoff = field(default_factory=Backoff)
    prepared: dict[Key, Prepared] = field(default_factory=dict)
    """What lies ready for quick restores, by NodeCheckpoint."""

    claiming: set[str] = field(default_factory=set)
    """Names of warm copies that are being handed to demos."""

    preparing: set[str] = field(default_factory=set)
    """Names of the containers in which images are being made right now."""

    checked: dict[Key, Checked] = field(default_factory=dict)
    """Archives whose digest was right, and what they looked like then, by NodeCheckpoint."""

    retried: dict[Key, float] = field(default_factory=dict)
    """When a copy in quarantine was last thawed for a test, in monotonic seconds."""

    broken_builds: Counter[Key] = field(default_factory=Counter)
    """Builds of a copy during which Podman went away."""

    filling: set[str] = field(default_factory=set)
    """Names of the containers that are being made ahead of time right now."""

    pods_in_work: set[str] = field(default_factory=set)
    """Names of pods that are being made or removed right now: half of one is nobody's leftover."""

    pool: Pool[WarmCopy] = field(default_factory=Pool)
    """Thawed copies that wait to be claimed."""

    slots: Pool[Slot] = field(default_factory=Pool)
    """Containers that wait to be thawed into."""

    builds: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BUILDS_AT_ONCE))
    """Held by builds and downloads: each keeps a core or the network busy."""

    unpacking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BUILDS_AT_ONCE))
    """Held by whoever prepares an archive."""

    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Held by whoever reads an archive through."""

    thaws: Turns = field(
        # A thaw keeps about one core busy: more of them at once only make each slower.
        default_factory=lambda: Turns(max(2, os.cpu_count() or 1))
    )

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.settings.node_name

    async def read_through(self, name: ArchiveName, archive: Archive) -> None:
        """Read an archive through, one at a time.

        Raises:
            ArchiveError: it is missing or damaged.

        """
        async with self.reading:
            await asyncio.to_thread(self.archives.check, name, archive)

    @property
    def in_work(self) -> set[str]:
        """Names of containers that are being made ahead of time, or handed out, right now."""
        return self.filling | self.claiming

    def is_wanted(self, key: Key) -> bool:
        """Whether the cluster still wants this copy here: it is neither gone nor going.

        What is made from one that goes may fail, and that is nobody's fault.
        """
        copy = self.copies.get(key)
        return copy is not None and not copy.is_deleting
