"""Checkpoints, instances and nodes, as the controller sees them."""

from __future__ import annotations

from tryitnow.metrics.bounds import CALL_BOUNDS
from tryitnow.metrics.family import CHECKPOINT, Counted, Program, State, Timed

INSTANCES = State(
    name="tryitnow_instances",
    help="Instances in the cluster by phase.",
    labels=(*CHECKPOINT, "phase"),
    programs=(Program.CONTROLLER,),
)

OLDEST_WAITING = State(
    name="tryitnow_oldest_waiting_instance_age_seconds",
    help="How long the instance of a checkpoint that waits longest for its start has not been "
    "ready, from its creation or its reset on; 0 when none waits. One whose container ended is "
    "counted by tryitnow_instances with the phase Restarting.",
    labels=CHECKPOINT,
    programs=(Program.CONTROLLER,),
)

BIND_DURATION = Timed(
    name="tryitnow_bind_duration_seconds",
    help="Time that the controller took to choose a node for an instance and to write the choice.",
    programs=(Program.CONTROLLER,),
    buckets=CALL_BOUNDS,
)

BIND_REFUSALS = Counted(
    name="tryitnow_bind_refusals_total",
    help="Failed tries to find a node for an instance, by reason; there is a try every 10 s.",
    labels=("reason",),
    programs=(Program.CONTROLLER,),
)

EXPIRED = Counted(
    name="tryitnow_instances_expired_total",
    help="Instances that were deleted because their ttl had ended.",
    programs=(Program.CONTROLLER,),
)

CLOCK_CERTAIN = State(
    name="tryitnow_clock_certain",
    help="1 while the controller is certain of the API server's time; while it is 0, no demo "
    "ends because its ttl is over.",
    programs=(Program.CONTROLLER,),
)

CHECKPOINT_PHASE = State(
    name="tryitnow_checkpoint_phase",
    help="1 for the phase that a Checkpoint is in, 0 for all others.",
    labels=(*CHECKPOINT, "phase"),
    programs=(Program.CONTROLLER,),
)

CHECKPOINT_NODES_READY = State(
    name="tryitnow_checkpoint_nodes_ready",
    help="Nodes that can restore the current revision of a Checkpoint.",
    labels=CHECKPOINT,
    programs=(Program.CONTROLLER,),
)

CHECKPOINT_NODES_DESIRED = State(
    name="tryitnow_checkpoint_nodes_desired",
    help="Nodes that are to hold the current revision of a Checkpoint.",
    labels=CHECKPOINT,
    programs=(Program.CONTROLLER,),
)

CHECKPOINT_POOL_READY = State(
    name="tryitnow_checkpoint_pool_ready",
    help="Warm sandboxes of a Checkpoint that wait to be claimed, on all nodes.",
    labels=CHECKPOINT,
    programs=(Program.CONTROLLER,),
)

CHECKPOINT_POOL_DESIRED = State(
    name="tryitnow_checkpoint_pool_desired",
    help="Warm sandboxes of a Checkpoint that are to wait (spec.pool.warm).",
    labels=CHECKPOINT,
    programs=(Program.CONTROLLER,),
)

CHECKPOINT_ARCHIVE_BYTES = State(
    name="tryitnow_checkpoint_archive_bytes",
    help="Size of the archive of the revision of a Checkpoint that serves.",
    labels=CHECKPOINT,
    programs=(Program.CONTROLLER,),
)

CHECKPOINT_FAILED_BUILDS = State(
    name="tryitnow_checkpoint_failed_builds",
    help="Failed builds of the revision of a Checkpoint that is wanted; 0 once one succeeded.",
    labels=CHECKPOINT,
    programs=(Program.CONTROLLER,),
)

NODE_CHECKPOINTS = State(
    name="tryitnow_node_checkpoints",
    help="NodeCheckpoints of a Checkpoint on nodes, of all revisions, by phase.",
    labels=(*CHECKPOINT, "phase"),
    programs=(Program.CONTROLLER,),
)

NODE_UP = State(
    name="tryitnow_node_agent_up",
    help="1 while the agent of a node reports, 0 when it has been silent for longer than 40 s.",
    labels=("node",),
    programs=(Program.CONTROLLER,),
)

NODE_READY = State(
    name="tryitnow_node_ready",
    help="1 where a node's agent reports and can run instances.",
    labels=("node",),
    programs=(Program.CONTROLLER,),
)

NODE_CAN_RESTORE = State(
    name="tryitnow_node_can_restore",
    help="1 where a node's agent reports and can checkpoint and restore.",
    labels=("node",),
    programs=(Program.CONTROLLER,),
)

NODE_CHECK = State(
    name="tryitnow_node_doctor_check",
    help="1 for the verdict of a check of `tryitnow doctor` on a node, 0 for the other verdicts.",
    labels=("node", "check", "verdict"),
    programs=(Program.CONTROLLER,),
)

NODE_INSTANCES = State(
    name="tryitnow_node_instances",
    help="Instances that are bound to a node.",
    labels=("node",),
    programs=(Program.CONTROLLER,),
)

NODE_CAPACITY = State(
    name="tryitnow_node_instances_limit",
    help="Instances that a node can run (by MAX_INSTANCES and PORT_RANGE).",
    labels=("node",),
    programs=(Program.CONTROLLER,),
)

NODE_MEMORY_BYTES = State(
    name="tryitnow_node_memory_available_bytes",
    help="Memory of a node for new instances, without the reserve.",
    labels=("node",),
    programs=(Program.CONTROLLER,),
)
