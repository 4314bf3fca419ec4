"""The plan for one Checkpoint: a pure function from observed facts to actions.

Four decisions, each from the same facts and, where it says so, from the decision before:
which revision serves (``serve``), how the build of the wanted one goes on (``build``), which nodes
hold it (``distribute``), and where warm sandboxes wait (``pool``). Between two plans only the
objects keep state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tryitnow.api.checkpoint import Checkpoint, CheckpointPhase
from tryitnow.api.meta import CHECKPOINT_LABEL, NODE_FINALIZER, REVISION_LABEL, Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointSpec, node_checkpoint_name
from tryitnow.controller.build import Build, plan_build
from tryitnow.controller.distribute import Distribution, plan_distribution
from tryitnow.controller.observed import Observed, PlannedEvent
from tryitnow.controller.pool import WarmSandboxes, plan_pool
from tryitnow.controller.refusals import Refusal
from tryitnow.controller.serve import Serving, choose_serving


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The next actions, and the facts for the status."""

    serving: Serving = field(default_factory=Serving)
    candidate: str | None = None
    """The revision that is being built."""

    build: Build = field(default_factory=Build)
    distribution: Distribution = field(default_factory=Distribution)
    pool: WarmSandboxes = field(default_factory=WarmSandboxes)
    newest_number: int = 0
    """Greatest number of a revision that is there."""

    delete: tuple[NodeCheckpoint, ...] = ()
    refused: tuple[Refusal, ...] = ()
    """Writes that the API server does not take at present."""

    @property
    def create(self) -> tuple[NodeCheckpointSpec, ...]:
        """The NodeCheckpoints to create."""
        build = (self.build.order,) if self.build.order is not None else ()
        return (*build, *self.distribution.create)

    @property
    def has_writes(self) -> bool:
        """Whether NodeCheckpoints are to be created or changed."""
        return bool(self.create or self.pool.updates or self.distribution.fetch_updates)

    @property
    def events(self) -> tuple[PlannedEvent, ...]:
        """The Events to record once the status is written."""
        return (*self.serving.events, *self.build.events)

    @property
    def requeue_after(self) -> timedelta:
        """The longest pause until the next plan."""
        return self.build.requeue_after

    @property
    def phase(self) -> CheckpointPhase:
        """The phase of the Checkpoint."""
        if not self.serving.is_wanted:
            return self.build.phase
        if self.distribution.is_fetching:
            return CheckpointPhase.DISTRIBUTING
        return CheckpointPhase.READY if self.distribution.nodes_ready else CheckpointPhase.PENDING

    @property
    def reason(self) -> str:
        """Reason of the condition Ready."""
        if not self.serving.is_wanted:
            return self.build.reason
        return "NoNodeCanRestore" if self.phase is CheckpointPhase.PENDING else str(self.phase)

    @property
    def message(self) -> str:
        """Message of the condition Ready."""
        text = self.distribution.message if self.serving.is_wanted else self.build.message
        refused = [str(refusal) for refusal in self.refused if str(refusal) not in text]
        return "\n".join([text, *refused])


def plan(observed: Observed) -> Plan:
    """Decide the next actions for a Checkpoint, and its status."""
    serving = choose_serving(observed)
    build = Build() if serving.is_wanted else plan_build(observed)
    distribution = plan_distribution(observed, serving)
    return Plan(
        serving=serving,
        candidate=None if serving.is_wanted else observed.wanted,
        build=build,
        distribution=distribution,
        pool=plan_pool(observed, serving),
        newest_number=max((r.spec.number for r in observed.revisions.values()), default=0),
        delete=_unique(
            [
                *observed.gone,
                *build.delete,
                *distribution.delete,
                *_outdated(observed, serving),
            ]
        ),
        refused=tuple(observed.refused.values()),
    )


def _outdated(observed: Observed, serving: Serving) -> list[NodeCheckpoint]:
    """Return NodeCheckpoints of revisions that neither serve, nor are wanted or starting."""
    kept = {serving.revision, observed.wanted} | observed.starting
    return [
        node_checkpoint
        for node_checkpoint in observed.present
        if node_checkpoint.spec.revision not in kept
    ]


def _unique(node_checkpoints: list[NodeCheckpoint]) -> tuple[NodeCheckpoint, ...]:
    unique: dict[Key, NodeCheckpoint] = {c.key: c for c in node_checkpoints if not c.is_deleting}
    return tuple(unique.values())


def creation(checkpoint: Checkpoint, spec: NodeCheckpointSpec) -> dict[str, Any]:
    """Return the NodeCheckpoint to create, as the API server takes it."""
    return {
        "metadata": {
            "name": node_checkpoint_name(spec.checkpoint, spec.revision, spec.node_name),
            "namespace": checkpoint.metadata.namespace,
            "labels": {CHECKPOINT_LABEL: spec.checkpoint, REVISION_LABEL: spec.revision},
            "ownerReferences": [checkpoint.owner_reference().to_api()],
            # From the first moment: the agent may hold something before it could say so.
            "finalizers": [NODE_FINALIZER],
        },
        "spec": spec.to_api(),
    }
