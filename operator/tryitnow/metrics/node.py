"""Metrics of an agent about its node and its Podman."""

from __future__ import annotations

from tryitnow.metrics.bounds import BUILD_BOUNDS, CALL_BOUNDS
from tryitnow.metrics.family import CHECKPOINT, Counted, Program, State, Timed

BUILDS = Counted(
    name="tryitnow_builds_total",
    help="Builds of a checkpoint that ended, by result: Verified, or the reason of the failure.",
    labels=(*CHECKPOINT, "result"),
    programs=(Program.AGENT,),
)

BUILD_DURATION = Timed(
    name="tryitnow_build_duration_seconds",
    help="Time of a build that was verified, from the first pull until its test restore answered.",
    labels=CHECKPOINT,
    programs=(Program.AGENT,),
    buckets=BUILD_BOUNDS,
)

FETCHES = Counted(
    name="tryitnow_fetches_total",
    help="Fetches of an archive from another node that ended, by result: Fetched, or the reason of "
    "the failure.",
    labels=(*CHECKPOINT, "result"),
    programs=(Program.AGENT,),
)

FETCH_DURATION = Timed(
    name="tryitnow_fetch_duration_seconds",
    help="Time of a fetch of an archive from another node that succeeded, with its image.",
    programs=(Program.AGENT,),
    buckets=BUILD_BOUNDS,
)

FETCHED_BYTES = Counted(
    name="tryitnow_fetched_bytes_total",
    help="Bytes of archives received from other nodes, including those of failed tries.",
    programs=(Program.AGENT,),
)

QUARANTINES = Counted(
    name="tryitnow_quarantines_total",
    help="Archives taken out of service, by reason: ArchiveDamaged, or a reason why it cannot be "
    "restored on this node, such as RestoreFailed or VerifyNotReady.",
    labels=(*CHECKPOINT, "reason"),
    programs=(Program.AGENT,),
)

AGENT_INSTANCES = State(
    name="tryitnow_agent_instances",
    help="Demos on this node by phase.",
    labels=("phase",),
    programs=(Program.AGENT,),
)

AGENT_NODE_CHECKPOINTS = State(
    name="tryitnow_agent_node_checkpoints",
    help="Revisions that this node is to keep, by phase.",
    labels=("phase",),
    programs=(Program.AGENT,),
)

AGENT_ARCHIVE_BYTES = State(
    name="tryitnow_agent_archive_bytes",
    help="Size of the archives that this node keeps and can restore, without what is unpacked "
    "from them.",
    programs=(Program.AGENT,),
)

AGENT_POOL = State(
    name="tryitnow_agent_pool_warm",
    help="Warm sandboxes that wait on this node to be claimed.",
    labels=CHECKPOINT,
    programs=(Program.AGENT,),
)

AGENT_POOL_DESIRED = State(
    name="tryitnow_agent_pool_desired_warm",
    help="Warm sandboxes that are to wait on this node.",
    labels=CHECKPOINT,
    programs=(Program.AGENT,),
)

AGENT_PREPARED = State(
    name="tryitnow_agent_prepared",
    help="Revisions that are unpacked on this node.",
    programs=(Program.AGENT,),
)

AGENT_PORTS_TAKEN = State(
    name="tryitnow_agent_ports_taken",
    help="Ports of PORT_RANGE that containers use.",
    programs=(Program.AGENT,),
)

AGENT_PORTS_LIMIT = State(
    name="tryitnow_agent_ports_limit",
    help="Ports in PORT_RANGE.",
    programs=(Program.AGENT,),
)

DIRECTORY_FREE_BYTES = State(
    name="tryitnow_checkpoint_directory_free_bytes",
    help="Free space of the file system of CHECKPOINT_PATH.",
    programs=(Program.AGENT,),
)

DIRECTORY_SIZE_BYTES = State(
    name="tryitnow_checkpoint_directory_size_bytes",
    help="Size of the file system of CHECKPOINT_PATH.",
    programs=(Program.AGENT,),
)

AGENT_SOFTWARE = State(
    name="tryitnow_agent_software_info",
    help="1; the labels are the versions that doctor found on this node.",
    labels=("kernel", "criu", "podman", "runtime"),
    programs=(Program.AGENT,),
)

PODMAN_CALL_DURATION = Timed(
    name="tryitnow_podman_call_duration_seconds",
    help="Time of a call to Podman, failed or not, including the wait for one of the "
    "client's threads.",
    labels=("operation",),
    programs=(Program.AGENT,),
    buckets=CALL_BOUNDS,
)

PODMAN_CALL_ERRORS = Counted(
    name="tryitnow_podman_call_errors_total",
    help="Calls to Podman that failed, by the class of the error (CRIUError, ImagePullError, "
    "PodmanUnreachableError, …).",
    labels=("operation", "error"),
    programs=(Program.AGENT,),
)

NOT_ANSWERING = State(
    name="tryitnow_agent_demos_not_answering",
    help="Demos on this node that were ready and do not answer now.",
    programs=(Program.AGENT,),
)

STORAGE_CHANGED = State(
    name="tryitnow_agent_storage_changed",
    help="1 while the node's storage or cluster has changed, and nothing is started or "
    "removed until a person confirms it; otherwise 0.",
    programs=(Program.AGENT,),
)
