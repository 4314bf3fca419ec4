"""The tools with which a NodeCheckpoint's jobs work, shared by all actors of the node."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tryitnow.agent.restore.tools import StartTools
from tryitnow.agent.revisions import Revisions
from tryitnow.agent.storage.archives import ArchiveStore
from tryitnow.agent.storage.generations import GenerationStore
from tryitnow.agent.storage.ledger import Ledger
from tryitnow.agent.transfer.client import Fetcher
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.fair_turns import FairTurns
from tryitnow.kubernetes.store import Store
from tryitnow.settings import AgentSettings

AT_ONCE = 2
"""Builds, fetches, unpackings and removals at once, of each: one keeps a core, the network or the
disk busy."""


def _turns() -> FairTurns:
    return FairTurns(AT_ONCE)


@dataclass(frozen=True)
class CheckpointTools:
    """What builds, fetches, unpackings and tests of archives have in common."""

    settings: AgentSettings
    start: StartTools
    revisions: Revisions
    archives: ArchiveStore
    generations: GenerationStore
    disk: Ledger
    fetcher: Fetcher
    free_capacity: Callable[[str], int]
    """Tells how many more sandboxes of a namespace may run here."""

    node_checkpoints: Store[NodeCheckpoint]
    """The newest known state of this node's NodeCheckpoints."""

    clock: Callable[[], float] = time.monotonic
    """Counts seconds, and is never set back."""

    builds: FairTurns = field(default_factory=_turns)
    fetches: FairTurns = field(default_factory=_turns)
    unpackings: FairTurns = field(default_factory=_turns)
    removals: FairTurns = field(default_factory=_turns)
    readings: FairTurns = field(default_factory=lambda: FairTurns(1))
    """Held by whoever reads an archive through."""
