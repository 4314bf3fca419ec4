"""The plan for one Checkpoint: a pure function from what is to what to do.

Written once, read by every step: what is built, what is copied where, what is dropped, and what
the status says. Nothing is remembered between two plans but what stands in the objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tryitnow.api.archive import Archive
from tryitnow.api.checkpoint import BuildFailure, Checkpoint, CheckpointPhase, Pool
from tryitnow.api.meta import (
    CHECKPOINT_LABEL,
    NODE_FINALIZER,
    REVISION_LABEL,
    Key,
    find_condition,
)
from tryitnow.api.nodeagent import NodeAgent
from tryitnow.api.nodecheckpoint import (
    Fetch,
    NodeCheckpoint,
    NodeCheckpointPhase,
    NodeCheckpointSpec,
    node_checkpoint_name,
)
from tryitnow.controller.distribute import choose_builder, holders, order_for, shares
from tryitnow.controller.retry import is_final, pause

Phase = NodeCheckpointPhase

_ON_THE_WAY = frozenset({Phase.PENDING, Phase.FETCHING, Phase.PREPARING, Phase.VERIFYING})

LOOK_AGAIN = timedelta(seconds=20)
"""Silence of a node is no event: it must be looked for."""


@dataclass(frozen=True)
class Observed:
    """What a plan is made from."""

    checkpoint: Checkpoint
    wanted: str
    """Identity of the revision that the Checkpoint's spec wants."""

    copies: list[NodeCheckpoint]
    selected: list[NodeAgent]
    """Agents of the nodes that the Checkpoint selects."""

    agents: Mapping[str, NodeAgent]
    """All agents by node name."""

    nodes: Mapping[str, str | None]
    """All nodes of the cluster, and the architecture of each, where its label says so."""

    cordoned: frozenset[str]
    """Names of those that get nothing new."""

    starting: frozenset[str]
    """Revisions that instances are just being started from."""

    at: datetime


@dataclass
class Plan:
    """What to do, and what to say."""

    create: list[NodeCheckpointSpec] = field(default_factory=list)
    reorder: list[tuple[NodeCheckpoint, Fetch]] = field(default_factory=list)
    repool: list[tuple[NodeCheckpoint, Pool]] = field(default_factory=list)
    delete: list[NodeCheckpoint] = field(default_factory=list)
    events: list[tuple[str, str, bool]] = field(default_factory=list)
    """Reason, note, and whether it is a warning."""

    # What the status is written from:
    phase: CheckpointPhase = CheckpointPhase.PENDING
    message: str = ""
    reason: str = ""
    serving: str | None = None
    candidate: str | None = None
    archive: Archive | None = None
    build_duration: timedelta | None = None
    nodes_ready: int = 0
    nodes_desired: int = 0
    copying: bool = False
    missing: tuple[str, ...] = ()
    warm_ready: int = 0
    warm_message: str | None = None
    attempts: int = 0
    failure: BuildFailure | None = None
    retry_at: datetime | None = None
    stalled: bool = False
    look_again: timedelta = LOOK_AGAIN


def plan(observed: Observed) -> Plan:
    """Decide what is to be done for a Checkpoint, and what its status is."""
    status = observed.checkpoint.status
    wanted = observed.wanted
    result = Plan(
        serving=status.current_revision,
        archive=status.archive,
        build_duration=status.build_duration,
    )
    # A freshly wanted revision starts with a clean slate of failures.
    if status.candidate_revision == wanted or status.current_revision == wanted:
        result.attempts = status.build_attempts
        result.failure = status.last_failure
        result.retry_at = status.retry_at
    # A silent node may come back with what it held; one that was removed will not.
    result.delete = [c for c in observed.copies if c.spec.node_name not in observed.nodes]
    observed = replace(observed, copies=[c for c in observed.copies if c not in result.delete])
    good = _good(observed.copies, wanted)
    if good:
        _serve(result, wanted, good)
    else:
        result.candidate = wanted
        if not _good(observed.copies, result.serving):
            result.serving = result.archive = None
        _build(observed, result, wanted)
    _distribute(observed, result)
    _pool(observed, result)
    _drop_old(observed, result, wanted)
    return result


def _good(copies: list[NodeCheckpoint], revision: str | None) -> list[NodeCheckpoint]:
    return [
        c
        for c in copies
        if c.spec.revision == revision and c.is_ready and c.status.archive is not None
    ]


def _serve(result: Plan, revision: str, good: list[NodeCheckpoint]) -> None:
    """The wanted revision is verified: demos are thawed from it."""
    first = next((c for c in good if c.spec.fetch is None), good[0])
    known = result.archive.sha256 if result.archive and result.serving == revision else None
    digests = {c.status.archive.sha256 for c in good if c.status.archive is not None}
    if known not in digests:
        result.archive = first.status.archive
        result.build_duration = first.status.build_duration
        took = first.status.build_duration
        said = f" in {took.total_seconds():.1f} s" if took else ""
        result.events.append(
            (
                "Verified",
                f"revision {revision} was built on {first.spec.node_name}{said}, and a "
                "test restore of it answered",
                False,
            )
        )
    result.serving = revision
    result.attempts, result.failure, result.retry_at = 0, None, None


def _build(observed: Observed, result: Plan, revision: str) -> None:
    """No good copy of the wanted revision exists: see that somebody builds it."""
    name = observed.checkpoint.metadata.name
    mine = [c for c in observed.copies if c.spec.revision == revision]
    building = [c for c in mine if c.spec.fetch is None and not c.is_deleting]
    for copy in building:
        if copy.status.phase is Phase.FAILED:
            condition = find_condition(copy.status.conditions, "Ready")
            reason = condition.reason if condition else "BuildFailed"
            _failed(observed, result, copy, reason, condition.message if condition else "")
        elif copy.status.phase is Phase.QUARANTINED:
            reason, message = "CopiesLost", f"the last copy, on {copy.spec.node_name}, is damaged"
            _failed(observed, result, copy, reason, message)
        elif (a := observed.agents.get(copy.spec.node_name)) is None or a.is_lost(observed.at):
            message = f"node {copy.spec.node_name} fell silent during the build"
            _failed(observed, result, copy, "NodeLost", message)
        else:
            verifying = copy.status.phase is Phase.VERIFYING
            result.phase = CheckpointPhase.VERIFYING if verifying else CheckpointPhase.BUILDING
            result.reason = str(result.phase)
            doing = copy.status.progress or "waiting for its agent"
            result.message = f"on {copy.spec.node_name}: {doing}"
            if result.failure:
                # Else the cause would be out of sight each time that it is tried again.
                result.message += (
                    f"\nThe last try, on {result.failure.node_name}, failed: "
                    f"{result.failure.message}"
                )
            result.look_again = timedelta(seconds=5)
            return
    if any(c.is_deleting for c in mine) or building:
        result.phase, result.reason = CheckpointPhase.PENDING, "CleaningUp"
        result.message = "waiting until what an earlier build left is removed"
        _say_failure(observed, result)
        return
    # Copies that only fetch cannot be served any more: there is nobody left to fetch from.
    result.delete += mine
    if result.failure and is_final(result.failure.reason, result.attempts):
        _say_failure(observed, result)
        return
    if result.retry_at and result.retry_at > observed.at:
        _say_failure(observed, result)
        result.look_again = result.retry_at - observed.at
        return
    avoid = result.failure.node_name if result.failure else None
    open_ = [a for a in observed.selected if a.metadata.name not in observed.cordoned]
    builder = choose_builder(observed.checkpoint, open_, observed.at, avoid)
    if builder is None:
        result.phase = CheckpointPhase.PENDING
        result.reason, result.message = _nobody_builds(observed)
        return
    node = builder.metadata.name
    result.create.append(
        NodeCheckpointSpec(
            checkpoint=name,
            revision=revision,
            node_name=node,
        )
    )
    result.phase, result.reason = CheckpointPhase.BUILDING, "Building"
    result.message = f"on {node}: ordered"
    result.events.append(("Building", f"building revision {revision} on {node}", False))


def _failed(
    observed: Observed, result: Plan, copy: NodeCheckpoint, reason: str, message: str
) -> None:
    """Count a failed build once, and clear it away for the next."""
    result.delete.append(copy)
    if result.failure and result.failure.node_checkpoint_uid == copy.metadata.uid:
        return
    result.attempts += 1
    result.failure = BuildFailure(
        node_checkpoint_uid=copy.metadata.uid,
        node_name=copy.spec.node_name,
        reason=reason,
        message=message,
        time=observed.at,
    )
    final = is_final(reason, result.attempts)
    result.retry_at = None if final else observed.at + pause(result.attempts, copy.metadata.uid)
    result.events.append((reason, f"on {copy.spec.node_name}: {message}", True))


def _say_failure(observed: Observed, result: Plan) -> None:
    if result.failure is None:
        return
    final = is_final(result.failure.reason, result.attempts)
    result.reason = result.failure.reason
    result.stalled = final
    result.phase = CheckpointPhase.FAILED if final else CheckpointPhase.PENDING
    if final:
        ahead = f"Given up after {result.attempts} tries: change the spec to try again."
    else:
        left = (result.retry_at - observed.at).total_seconds() if result.retry_at else 0
        ahead = f"Next try in {max(left, 0):.0f} s." if left > 0 else "Trying again."
    result.message = f"{result.failure.message}\n{ahead} (node {result.failure.node_name})"


def _nobody_builds(observed: Observed) -> tuple[str, str]:
    if not observed.selected:
        return "NoNode", (
            "no node runs an agent and matches spec.distribution.nodeSelector; "
            "see `kubectl get nodeagents`"
        )
    why = []
    for agent in observed.selected:
        criu = find_condition(agent.status.conditions, "CRIUAvailable")
        ready = find_condition(agent.status.conditions, "Ready")
        if agent.is_lost(observed.at):
            said = "is silent"
        elif ready is None or ready.status != "True":
            said = ready.message if ready else "has not reported yet"
        elif agent.metadata.name in observed.cordoned:
            said = "is cordoned"
        elif not agent.can_take(observed.at):
            said = "has its agent stopped"
        else:
            said = criu.message if criu else "has not reported yet"
        why.append(f"{agent.metadata.name}: {said}")
    return "CRIUNotAvailable", (
        "no selected node can freeze it; demos start cold until one can. " + "; ".join(why)
    )


def _distribute(observed: Observed, result: Plan) -> None:
    """Copies of the revision that serves go to every node that is to hold one."""
    revision, archive = result.serving, result.archive
    holding = {c.spec.node_name for c in _good(observed.copies, revision)}
    chosen = holders(
        observed.checkpoint,
        _alike(observed, revision),
        holding,
        observed.cordoned,
        observed.at,
    )
    result.nodes_desired = len(chosen)
    if revision is None or archive is None:
        return
    good = _good(observed.copies, revision)
    present = {c.spec.node_name: c for c in observed.copies if c.spec.revision == revision}
    missing, unable = [], []
    for agent in chosen:
        node = agent.metadata.name
        copy = present.get(node)
        if copy is not None and copy.is_ready:
            if agent.can_restore(observed.at):
                result.nodes_ready += 1
            else:
                unable.append(node)
            continue
        missing.append(node)
        if agent.is_lost(observed.at):
            continue
        order = order_for(node, archive, good, observed.agents, observed.at)
        if copy is None:
            result.create.append(
                NodeCheckpointSpec(
                    checkpoint=observed.checkpoint.metadata.name,
                    revision=revision,
                    node_name=node,
                    fetch=order,
                )
            )
            result.copying = True
        elif not copy.is_deleting:
            if copy.spec.fetch != order:
                result.reorder.append((copy, order))
            result.copying |= _is_under_way(copy)
    result.missing = tuple(missing)
    if result.serving == observed.wanted:
        done = not result.copying
        result.phase = CheckpointPhase.READY if done else CheckpointPhase.DISTRIBUTING
        result.reason = str(result.phase)
        result.message = (
            f"demos can be restored on {result.nodes_ready} of {result.nodes_desired} nodes"
        )
        if not result.nodes_ready and done:
            result.phase, result.reason = CheckpointPhase.PENDING, "NoNodeCanRestore"
        if unable:
            result.message += (
                f"; silent or without CRIU: {', '.join(unable)} (see `kubectl get nodeagents`)"
            )
        if missing:
            result.message += f"; without a copy: {', '.join(missing)}"
    # A node that is no longer to hold a copy gives its space back: not before one that is to
    # hold a copy has it, or there would be nobody to fetch from.
    names = {agent.metadata.name for agent in chosen}
    if any(c.spec.node_name in names for c in good):
        result.delete += [copy for node, copy in present.items() if node not in names]


def _alike(observed: Observed, revision: str | None) -> list[NodeAgent]:
    """Return the selected agents whose nodes can run what was frozen where the copies are."""
    good = _good(observed.copies, revision)
    if not good:
        return observed.selected
    # The builder's, where it still has its own: before there was this rule, copies went anywhere.
    first = min(good, key=lambda copy: copy.spec.fetch is not None)
    architecture = observed.nodes[first.spec.node_name]
    return [a for a in observed.selected if observed.nodes[a.metadata.name] == architecture]


def _pool(observed: Observed, result: Plan) -> None:
    """The warm copies are spread over the copies that serve; other revisions keep none."""
    good = _good(observed.copies, result.serving)
    # What waits on a node that gets no demos waits for nobody.
    claimable = [copy for copy in good if copy.spec.node_name not in observed.cordoned]
    wanted = shares(observed.checkpoint, claimable, observed.agents, observed.at)
    serving = {copy.key for copy in good}
    none = Pool()
    for copy in observed.copies:
        share = wanted.get(copy.spec.node_name, none) if copy.key in serving else none
        if copy.spec.pool != share and not copy.is_deleting:
            result.repool.append((copy, share))
    waiting = [copy for copy in good if copy.spec.node_name in wanted]
    result.warm_ready = sum(copy.status.warm_ready for copy in waiting)
    said = [copy.status.warm_message for copy in waiting if copy.status.warm_message]
    result.warm_message = "; ".join(sorted(said)) or None


def _is_under_way(copy: NodeCheckpoint) -> bool:
    """Whether a copy is expected soon: one that failed to arrive may need somebody to act."""
    ready = find_condition(copy.status.conditions, "Ready")
    failed = ready is not None and ready.reason not in set(Phase)
    return copy.status.phase in _ON_THE_WAY and not failed


def _drop_old(observed: Observed, result: Plan, wanted: str) -> None:
    """Revisions that neither serve nor come next are dropped, once nobody is starting from them."""
    kept = {result.serving, wanted} | observed.starting
    result.delete += [c for c in observed.copies if c.spec.revision not in kept]
    unique: dict[Key, NodeCheckpoint] = {c.key: c for c in result.delete if not c.is_deleting}
    result.delete = list(unique.values())


def creation(checkpoint: Checkpoint, spec: NodeCheckpointSpec) -> dict[str, object]:
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
