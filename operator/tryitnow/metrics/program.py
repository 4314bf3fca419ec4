"""Metrics of a program about itself: its requests to the API server and its work queues."""

from __future__ import annotations

from tryitnow.metrics.bounds import CALL_BOUNDS
from tryitnow.metrics.family import Counted, Program, State, Timed

BUILD_INFO = State(
    name="tryitnow_build_info",
    help="1; the labels say which program of which version this is.",
    labels=("program", "version"),
    programs=(Program.CONTROLLER, Program.AGENT),
)

LEADER = State(
    name="tryitnow_leader",
    help="1 for the controller that leads, 0 for one that stands by.",
    programs=(Program.CONTROLLER,),
)

KUBERNETES_REQUEST_DURATION = Timed(
    name="tryitnow_kubernetes_request_duration_seconds",
    help="Time of a request to the API server, failed or not; Kopf's watches are not among them.",
    labels=("verb", "resource"),
    programs=(Program.CONTROLLER, Program.AGENT),
    buckets=CALL_BOUNDS,
)

KUBERNETES_REQUEST_ERRORS = Counted(
    name="tryitnow_kubernetes_request_errors_total",
    help="Requests to the API server that failed, by HTTP status; 0 when there was no answer. 404 "
    "and 409 are normal.",
    labels=("verb", "resource", "code"),
    programs=(Program.CONTROLLER, Program.AGENT),
)

QUEUE_WAIT = Timed(
    name="tryitnow_workqueue_wait_duration_seconds",
    help="Time from an object being due until work on it began.",
    labels=("queue",),
    programs=(Program.CONTROLLER, Program.AGENT),
    buckets=CALL_BOUNDS,
)

QUEUE_WORK = Timed(
    name="tryitnow_workqueue_work_duration_seconds",
    help="Time of one piece of work on an object, failed or not.",
    labels=("queue",),
    programs=(Program.CONTROLLER, Program.AGENT),
    buckets=(*CALL_BOUNDS, 300.0, 1800.0),
)

QUEUE_RETRIES = Counted(
    name="tryitnow_workqueue_retries_total",
    help="Pieces of work that failed and are retried, by cause: expected (the API server, "
    "Podman or the disk) or unexpected (a bug of ours: the log has its traceback).",
    labels=("queue", "cause"),
    programs=(Program.CONTROLLER, Program.AGENT),
)

QUEUE_KEYS = State(
    name="tryitnow_workqueue_keys",
    help="Objects in a queue by state: waiting for a worker, working, or failing (they wait for "
    "another try).",
    labels=("queue", "state"),
    programs=(Program.CONTROLLER, Program.AGENT),
)
