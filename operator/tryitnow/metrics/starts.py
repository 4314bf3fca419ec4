"""How instances start and are restored: told by the agents."""

from __future__ import annotations

from tryitnow.metrics.bounds import PHASE_BOUNDS, START_BOUNDS
from tryitnow.metrics.family import CHECKPOINT, Counted, Program, Timed

START_DURATION = Timed(
    name="tryitnow_start_duration_seconds",
    help="Time from an instance being bound to its node until it was ready, by how it was started "
    "(Warm, Restore or ColdStart), the controller's time to bind it included. Only the try that "
    "succeeded counts, with what it lost on a restore before a cold start.",
    labels=(*CHECKPOINT, "method"),
    programs=(Program.AGENT,),
    buckets=START_BOUNDS,
)

START_PHASE_DURATION = Timed(
    name="tryitnow_start_phase_duration_seconds",
    help="Time of one step of a start, as in status.timings: bind, claim (of a warm copy; of a "
    "restore, what was lost on one that did not answer), queue (waiting for a turn), prepare (the "
    "image), restore (with criu as CRIU's own part), cold_start, probe, hooks, fallback (lost on a "
    "restore that failed). source says what a restore was read from: Prepared or Archive.",
    labels=("method", "source", "phase"),
    programs=(Program.AGENT,),
    buckets=PHASE_BOUNDS,
)

STARTS = Counted(
    name="tryitnow_starts_total",
    help="Instances that became ready, by what was asked for (spec.start), how they were started, "
    "and why they were started cold although a restore was allowed (else empty).",
    labels=(*CHECKPOINT, "policy", "method", "fallback_reason"),
    programs=(Program.AGENT,),
)

START_FAILURES = Counted(
    name="tryitnow_start_failures_total",
    help="Tries to start an instance that failed altogether, by the reason in its Ready condition.",
    labels=(*CHECKPOINT, "reason"),
    programs=(Program.AGENT,),
)

RESTARTS = Counted(
    name="tryitnow_restarts_total",
    help="Ready instances whose container ended or vanished, and that were started again.",
    labels=CHECKPOINT,
    programs=(Program.AGENT,),
)

RESTORES = Counted(
    name="tryitnow_restores_total",
    help="Restores by Podman and CRIU, by what they were read from (Prepared or Archive), what "
    "they were for (demo, warm or verify), and how they ended: Ready, NotReady (thawed, but it did "
    "not answer in time), CRIUFailed, PodmanFailed, PodmanUnreachable, CopyCorrupt, "
    "ImagePullFailed, DiskFailed.",
    labels=(*CHECKPOINT, "source", "purpose", "result"),
    programs=(Program.AGENT,),
)

RESTORE_DURATION = Timed(
    name="tryitnow_restore_duration_seconds",
    help="Time of a restore that became ready, from the request until it answered, waiting for "
    "its turn included.",
    labels=("source", "purpose"),
    programs=(Program.AGENT,),
    buckets=START_BOUNDS,
)

CLAIMS = Counted(
    name="tryitnow_claims_total",
    help="Instances that looked for a warm copy where a pool is kept, by result: Claimed; Empty "
    "(none waited). Unfit counts copies that waited, did not answer any more, and were dropped.",
    labels=(*CHECKPOINT, "result"),
    programs=(Program.AGENT,),
)
