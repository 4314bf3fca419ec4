"""Metrics of the agents about starts and restores."""

from __future__ import annotations

from tryitnow.metrics.bounds import PHASE_BOUNDS, START_BOUNDS
from tryitnow.metrics.family import CHECKPOINT, Counted, Program, Timed

START_DURATION = Timed(
    name="tryitnow_start_duration_seconds",
    help="Time from a demo being bound to its node until it was ready, by method of the start "
    "(Warm, Restore or ColdStart), the controller's time to bind it included. Only the try that "
    "succeeded counts, with what it lost on a restore before a cold start.",
    labels=(*CHECKPOINT, "method"),
    programs=(Program.AGENT,),
    buckets=START_BOUNDS,
)

START_PHASE_DURATION = Timed(
    name="tryitnow_start_phase_duration_seconds",
    help="Time of one step of a start, as in status.timings: bind, claim (of a warm sandbox; of a "
    "restore, the time lost on one that did not answer), queue (waiting for a turn), prepare (the "
    "sandbox and, of a cold start, the images), restore (with criu as CRIU's own part), "
    "cold_start, restart, probe, hooks, fallback (lost on a restore that failed).",
    labels=("method", "phase"),
    programs=(Program.AGENT,),
    buckets=PHASE_BOUNDS,
)

STARTS = Counted(
    name="tryitnow_starts_total",
    help="Demos that became ready, by policy (spec.start), method of the start, and the reason for "
    "a cold start although a restore was allowed (else empty).",
    labels=(*CHECKPOINT, "policy", "method", "fallback_reason"),
    programs=(Program.AGENT,),
)

START_FAILURES = Counted(
    name="tryitnow_start_failures_total",
    help="Tries to start a demo that failed altogether, by the reason in its Ready condition.",
    labels=(*CHECKPOINT, "reason"),
    programs=(Program.AGENT,),
)

RESTARTS = Counted(
    name="tryitnow_restarts_total",
    help="Ready demos that were started again because a container ended.",
    labels=CHECKPOINT,
    programs=(Program.AGENT,),
)

RESTORES = Counted(
    name="tryitnow_restores_total",
    help="Restores by Podman and CRIU, by purpose (demo, warm or verify), and by how they "
    "ended: Ready, NotReady (restored, but it did not answer in time), CRIUFailed, PodmanFailed, "
    "PodmanUnreachable, NodeLimit, DiskFailed.",
    labels=(*CHECKPOINT, "purpose", "result"),
    programs=(Program.AGENT,),
)

RESTORE_DURATION = Timed(
    name="tryitnow_restore_duration_seconds",
    help="Time of a restore that became ready, from the request until it answered, waiting for "
    "its turn included.",
    labels=("purpose",),
    programs=(Program.AGENT,),
    buckets=START_BOUNDS,
)

DATA_LOST = Counted(
    name="tryitnow_data_lost_total",
    help="Demos whose files were found gone for a reason beyond the operator.",
    labels=CHECKPOINT,
    programs=(Program.AGENT,),
)

CLAIMS = Counted(
    name="tryitnow_claims_total",
    help="Demos that looked for a warm sandbox where a pool is kept, by result: Claimed; Empty "
    "(none waited). Unfit counts sandboxes that waited, did not answer, and were removed.",
    labels=(*CHECKPOINT, "result"),
    programs=(Program.AGENT,),
)
