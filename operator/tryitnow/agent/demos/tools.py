"""The tools that the life of a demo needs, shared by all demos of the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from tryitnow.agent.checkpoints.registry import CheckpointRegistry
from tryitnow.agent.checkpoints.tools import CheckpointTools
from tryitnow.agent.demos.crashes import Crashes
from tryitnow.agent.demos.network import NetworkRepair
from tryitnow.agent.demos.verdicts import Verdicts
from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.revisions import Revisions
from tryitnow.agent.sandbox.kernel_log import read_kernel_log
from tryitnow.api.demoinstance import DemoInstance
from tryitnow.fair_turns import FairTurns
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.kubernetes.store import Store
from tryitnow.settings import AgentSettings

DELETIONS_AT_ONCE = 16
"""Each makes Podman write to its database a few times, which starts wait for as well."""


@dataclass(frozen=True)
class DemoTools:
    """What all demos have in common."""

    settings: AgentSettings
    kubernetes: KubernetesApi
    start: StartTools
    revisions: Revisions
    checkpoints: CheckpointRegistry
    warm: CheckpointTools
    """For asking warm sandboxes."""

    demos: Store[DemoInstance]
    network: NetworkRepair
    storage_problem: Callable[[], str | None]
    """Tells why nothing may be removed or started anew; None when the storage is what it was."""

    examine_storage: Callable[[], Awaitable[str | None]]
    """Has the storage examined now, and tells the same."""

    boot_id: str
    """Identity of the node's present boot."""

    kernel_log: Callable[[], Iterable[str]] = read_kernel_log
    """Reads the records of the kernel's log. Blocking."""

    deletions: FairTurns = field(default_factory=lambda: FairTurns(DELETIONS_AT_ONCE))
    """For the removal of sandboxes. Hooks before it, which may take minutes, have other turns."""

    crashes: Crashes = field(default_factory=Crashes)
    verdicts: Verdicts = field(default_factory=Verdicts)
