"""What to do next about an object: one sentence, with a command where there is one."""

from __future__ import annotations

from datetime import datetime

from tryitnow.api.checkpoint import Checkpoint, CheckpointPhase
from tryitnow.api.checkpointrevision import CheckpointRevision
from tryitnow.api.demoinstance import DemoInstance, DemoInstancePhase, StartedBy, StartPolicy
from tryitnow.api.meta import Condition, Resource, find_condition
from tryitnow.api.nodeagent import NodeAgent, Verdict
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase
from tryitnow.metrics.bounds import START_OBJECTIVE_SECONDS

_WAITS = {
    "CheckpointNotFound": "Create the Checkpoint, or delete this demo and name another: "
    "`kubectl get checkpoints -n {namespace}`.",
    "NoNode": "See which nodes there are and what their doctor says: `tryitnow status`.",
    "LimitReached": "Wait for another demo of the Checkpoint to end, delete one, or have"
    " spec.limits.instances of the Checkpoint raised.",
    "NoRoom": "Wait for another demo to end, or delete one: `kubectl get demoinstances -A`.",
    "NoNodeCheckpoint": "It waits for a Ready NodeCheckpoint (spec.start is RestoreOnly): "
    "`tryitnow status ckpt/{checkpoint} -n {namespace}`.",
    "RevisionPending": "It waits for a revision of its Checkpoint: "
    "`tryitnow status ckpt/{checkpoint} -n {namespace}`.",
    "CannotCreateCheckpointRevision": "Raise the quota, or change the policy, that the condition "
    "names; the operator tries again by itself.",
    "NodeLost": "Its node is silent: delete the demo and start another, or bring the node back.",
    "NodeRestarted": "Wait: its node was started again, and the demo is with its files, in turn "
    "with the node's others.",
    "OOMKilled": "It is started again with its files. Do what the condition says, or its memory "
    "ends again.",
    "ImagePullFailed": "Fix the image's name, the registry, or the node's access to it; "
    "the operator tries again by itself.",
    "NoPort": "All ports of the node are taken: raise PORT_RANGE of the agents, "
    "or delete demos of that node.",
    "PodmanUnreachable": "Start Podman on the node: `systemctl start podman.socket`.",
}


def next_step(resource: Resource, at: datetime) -> str:
    """Return the next step for a person."""
    if isinstance(resource, DemoInstance):
        return _demo(resource)
    if isinstance(resource, Checkpoint):
        return _checkpoint(resource)
    if isinstance(resource, CheckpointRevision):
        return _revision(resource)
    if isinstance(resource, NodeCheckpoint):
        return _node_checkpoint(resource)
    if isinstance(resource, NodeAgent):
        return _node(resource, at)
    return ""


def _demo(demo: DemoInstance) -> str:
    name, namespace = demo.metadata.name, demo.metadata.namespace
    where = f"{name} -n {namespace}"
    if demo.is_deleting:
        return "It is being deleted; there is nothing to do."
    if demo.status.phase is DemoInstancePhase.READY:
        timings = demo.status.timings
        total = timings.total.total_seconds() if timings and timings.total else 0.0
        cold = demo.status.started_by is StartedBy.COLD_START
        if (
            cold and demo.spec.start is not StartPolicy.COLD_START
        ) or total > START_OBJECTIVE_SECONDS:
            why = f"To see why it took so long: `tryitnow explain-slow {where}`."
            return f"Use it: {demo.status.url}. {why}"
        return f"Use it: {demo.status.url}."
    if demo.status.phase is DemoInstancePhase.FAILED:
        return (
            "Fix the problem in the condition Stalled, then delete this demo and start another: "
            f"`kubectl delete demoinstance {where}`."
        )
    ready = find_condition(demo.status.conditions, "Ready")
    advice = _WAITS.get(ready.reason if ready else "")
    if advice:
        return advice.format(namespace=namespace, checkpoint=demo.spec.checkpoint_ref.name)
    if ready is None:
        return (
            "The controller has not handled it yet. Check that it runs: "
            "`kubectl get pods -n tryitnow-system`"
        )
    return f"Wait: `kubectl wait --for=condition=Ready demoinstance/{where}`."


def _checkpoint(checkpoint: Checkpoint) -> str:
    name, namespace = checkpoint.metadata.name, checkpoint.metadata.namespace
    stalled = _true(checkpoint.status.conditions, "Stalled")
    if stalled:
        return (
            f"Fix the problem in the condition Stalled by a change of the spec: {stalled.message}"
        )
    if checkpoint.status.phase is CheckpointPhase.READY:
        return f"Start a demo: `tryitnow demo {name} -n {namespace}`."
    if checkpoint.status.last_failure is not None:
        return (
            "The operator builds it again by itself; the cause is in status.lastFailure and in "
            "docs/checkpoint.md."
        )
    return f"Wait: `kubectl wait --for=condition=Ready checkpoint/{name} -n {namespace}`."


def _revision(revision: CheckpointRevision) -> str:
    if revision.is_deleting:
        return "It is removed when no demo and no node needs it any more; there is nothing to do."
    checkpoint, namespace = revision.spec.checkpoint, revision.metadata.namespace
    return f"See its Checkpoint: `tryitnow status ckpt/{checkpoint} -n {namespace}`."


def _node_checkpoint(node_checkpoint: NodeCheckpoint) -> str:
    if node_checkpoint.status.phase is NodeCheckpointPhase.READY:
        return "Nothing: this node can restore it."
    if node_checkpoint.status.phase is NodeCheckpointPhase.QUARANTINED:
        return (
            "Its restores on this node failed twice in a row: see the Events, and "
            f"`tryitnow status node/{node_checkpoint.spec.node_name}`."
        )
    return node_checkpoint.status.progress or "Wait until the node is Ready."


def _node(agent: NodeAgent, at: datetime) -> str:
    if agent.is_lost(at):
        return (
            "Its agent is silent: "
            f"`kubectl get pods -A -o wide --field-selector spec.nodeName={agent.spec.node_name}`."
        )
    bad = [check for check in agent.status.checks if check.verdict is not Verdict.PASS]
    remedies = [f"{check.name}: {check.remedy}" for check in bad if check.remedy]
    return " ".join(remedies) or "Nothing: it can checkpoint and restore."


def _true(conditions: tuple[Condition, ...], type_: str) -> Condition | None:
    found = find_condition(conditions, type_)
    return found if found is not None and found.status == "True" else None
