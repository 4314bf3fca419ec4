"""The tools that bring an application up, handed to each of the ways as one thing."""

from __future__ import annotations

from dataclasses import dataclass, field

from tryitnow.agent.health import LastHealth
from tryitnow.agent.restore.given import GivenImages
from tryitnow.agent.sandbox.containers import Containers
from tryitnow.agent.sandbox.hooks import HookRunner
from tryitnow.agent.sandbox.leftovers import Conmons
from tryitnow.agent.sandbox.lifecycle import Sandboxes
from tryitnow.agent.sandbox.probe import Prober
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.agent.storage.volumes import VolumeStore
from tryitnow.agent.turns import PrioritySemaphore, ShortTurns
from tryitnow.kubernetes.client import KubernetesApi
from tryitnow.metrics.instruments import Metrics
from tryitnow.podman.client import Podman


@dataclass(frozen=True)
class StartTools:
    """What a build, a test restore, the warm pool and a demo have in common."""

    kubernetes: KubernetesApi
    """For Secrets and ConfigMaps only."""

    account: str
    """The agents' ServiceAccount (``namespace:name``), for the command that opts a namespace in."""

    podman: Podman
    volumes: VolumeStore
    sandboxes: Sandboxes
    containers: Containers
    prober: Prober
    hooks: HookRunner
    health: LastHealth
    turns: PrioritySemaphore
    """A restore keeps about one core busy: more of them at once only make each slower."""

    restarts: ShortTurns
    memory: Ledger
    conmons: Conmons
    metrics: Metrics
    given: GivenImages = field(default_factory=GivenImages)
