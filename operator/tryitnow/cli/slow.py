"""Causes of a slow start: each with its evidence and its fix.

Pure functions over what was read; nothing here asks anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import (
    DemoInstance,
    FallbackReason,
    StartedBy,
    StartPolicy,
    Timings,
)
from tryitnow.api.nodeagent import NodeAgent, Verdict
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.cli.distribution import Distribution
from tryitnow.cli.steps import Step, steps
from tryitnow.cli.table import first_line, seconds, size
from tryitnow.kubernetes.event_list import EventRecord

DOMINATES = 0.25
"""Share of the total from which on a step is worth a word."""

STANDS_OUT = 0.95
"""Share of others that were quicker in a step, from which on it is unusual."""

ENOUGH = 5
"""Others that it takes to call something unusual."""

NEGLIGIBLE = timedelta(milliseconds=50)

ROUNDING = timedelta(seconds=2)
"""Creation and readiness have whole seconds."""

LARGE_ARCHIVE_BYTES = 256 << 20
"""The shop's image, 319 MB uncompressed, is read in 0.15 to 0.26 s (docs of the lab's
measurements); what is much smaller is no reason."""


@dataclass(frozen=True)
class Facts:
    """What is known about a demo and what it ran on."""

    demo: DemoInstance
    elsewhere: Mapping[str, Distribution]
    """By step, and ``total``."""

    checkpoint: Checkpoint | None = None
    node_checkpoint: NodeCheckpoint | None = None
    node_checkpoint_events: list[EventRecord] = field(default_factory=list)
    agent: NodeAgent | None = None

    @property
    def timings(self) -> Timings:
        """How long its steps took."""
        return self.demo.status.timings or Timings()


@dataclass(frozen=True)
class Cause:
    """One likely cause."""

    name: str
    """Compatibility, archive, disk, processor, memory, image pull, queue, probe, hooks, controller,
    Podman."""

    evidence: str
    fix: str


def causes(facts: Facts) -> list[Cause]:
    """Return the likely causes, those that cost most first."""
    return [
        *_waited(facts),
        *_cold(facts),
        *(cause for step in _telling(facts) for cause in _of_step(step, facts)),
        # After the step that took the time: a busy node makes all of them longer.
        *_pressure(facts),
        *_memory(facts),
    ]


def _telling(facts: Facts) -> list[Step]:
    """Return the steps that matter, the longest first."""
    total = facts.timings.total or timedelta()

    def matters(step: Step) -> bool:
        if step.is_part or step.took < NEGLIGIBLE:
            return False
        return step.took >= DOMINATES * total or _is_unusual(step, facts)

    return sorted(filter(matters, steps(facts.timings)), key=lambda step: step.took, reverse=True)


def _is_unusual(step: Step, facts: Facts) -> bool:
    others = facts.elsewhere.get(step.name)
    if others is None or others.count < ENOUGH:
        return False
    return others.share_below(step.took.total_seconds()) >= STANDS_OUT


def _waited(facts: Facts) -> Iterator[Cause]:
    status = facts.demo.status
    created, total = facts.demo.metadata.creation_timestamp, facts.timings.total
    if created is None or status.ready_at is None or total is None or status.restarts:
        return
    waited = status.ready_at - created - total
    if waited > ROUNDING:
        yield Cause(
            "queue",
            f"it waited about {seconds(waited)} before the start that worked: no node had room, no "
            "NodeCheckpoint was Ready, or starts failed",
            "the Events say which: "
            f"`tryitnow status demo/{facts.demo.metadata.name} -n {facts.demo.metadata.namespace}`",
        )


_COLD: dict[FallbackReason, tuple[str, str]] = {
    FallbackReason.NOT_READY_HERE: (
        "archive",
        "wait until the Checkpoint is Ready on the nodes that run demos: "
        "`tryitnow status ckpt/{checkpoint} -n {namespace}`; spec.distribution.copies may be too "
        "few",
    ),
    FallbackReason.ARCHIVE_DAMAGED: (
        "disk",
        "the archive is fetched anew by itself; twice means a sick disk: look at the node's kernel "
        "log (`dmesg`)",
    ),
    FallbackReason.RESTORE_FAILED: (
        "compatibility",
        "docs/checkpoint.md has a table of what CRIU refuses, with the remedy for each; the same "
        "versions of kernel and CRIU on all nodes rule much out",
    ),
    FallbackReason.RESTORE_NOT_READY: (
        "probe",
        "find out what the application waits for after a restore (a connection that was closed?), "
        "or raise spec.readiness.restoreTimeout",
    ),
    FallbackReason.HOOK_FAILED: (
        "hooks",
        "fix the hook: run its command in a demo with `tryitnow shell`",
    ),
    FallbackReason.NODE_LIMIT: (
        "node",
        "the message names the limit and its remedy; `tryitnow doctor` on the node looks at all "
        "limits",
    ),
}


def _cold(facts: Facts) -> Iterator[Cause]:
    demo = facts.demo
    reason = demo.status.fallback_reason
    if reason is None:
        if demo.status.started_by is StartedBy.COLD_START and (
            demo.spec.start is StartPolicy.COLD_START
        ):
            fix = "leave spec.start out: the demo is restored then"
            yield Cause("cold start", "spec.start asks for a cold start", fix)
        return
    evidence = f"started cold: {reason}: {first_line(demo.status.fallback_message or '', 300)}"
    if reason is FallbackReason.CRIU_NOT_AVAILABLE:
        yield Cause("compatibility", evidence, _remedies(facts.agent))
        return
    name, fix = _COLD[reason]
    where = {"checkpoint": demo.spec.checkpoint_ref.name, "namespace": demo.metadata.namespace}
    yield Cause(name, evidence, fix.format(**where))


CPU_PRESSURE, IO_PRESSURE, MEMORY_PRESSURE = 50, 30, 10
"""Percent of a start in which processes waited, from which on that is worth a word. A start alone
on an idle node keeps its own processes waiting for a processor for a while."""

PRESSURE_COUNTS_FROM = timedelta(seconds=1)
"""A shorter start is not slow, and its own processes fill it."""


def _pressure(facts: Facts) -> Iterator[Cause]:
    found, total = facts.demo.status.pressure, facts.timings.total or timedelta()
    if found is None or total < PRESSURE_COUNTS_FROM:
        return
    node = facts.demo.status.node_name
    spread = "keep warm sandboxes (spec.pool.warm), run fewer demos there, or add nodes"
    for percent, limit, what, name, fix in (
        (found.cpu, CPU_PRESSURE, "a processor", "processor", spread),
        (found.io, IO_PRESSURE, "a disk", "disk", "use a faster disk below agent.hostDirectory"),
        (found.memory, MEMORY_PRESSURE, "memory", "memory", f"add memory, or {spread}"),
    ):
        if percent >= limit:
            yield Cause(
                name,
                f"processes of {node} waited for {what} in {percent} % of the start (PSI)",
                fix,
            )


def _remedies(agent: NodeAgent | None) -> str:
    failed = [c for c in agent.status.checks if c.verdict is Verdict.FAIL] if agent else []
    reported = "; ".join(f"{c.name}: {c.remedy or c.found}" for c in failed)
    return reported or "`tryitnow doctor` on the node names the problem and its fix"


def _of_step(step: Step, facts: Facts) -> Iterator[Cause]:
    took = f"{step.name} took {seconds(step.took)}"
    match step.name:
        case "queue":
            yield Cause(
                "queue",
                f"{took}: more demos were restored at once on {facts.demo.status.node_name} than "
                "it has cores",
                "keep warm sandboxes (spec.pool.warm), or add nodes",
            )
        case "prepare":
            yield Cause(
                "image pull",
                f"{took}: the image was not on the node",
                "do not prune images on the nodes; a registry nearer to them helps",
            )
        case "restore":
            yield _restore(took, facts)
        case "probe":
            yield _probe(took, facts)
        case "cold_start":
            yield Cause(
                "Podman",
                f"{took}: Podman created and started a fresh container",
                f"{_storage(facts.agent)}; a restore does not need it",
            )
        case "bind":
            yield Cause(
                "controller",
                f"{took}: the controller was busy, or away",
                "see tryitnow_workqueue_wait_duration_seconds of the controller (docs/metrics.md)",
            )
        case "hooks":
            yield Cause(
                "hooks",
                f"{took}: the afterRestore hooks of the Checkpoint",
                "move the work that is the same for all demos to hooks.beforeCheckpoint",
            )
        case "claim" if facts.demo.status.started_by is StartedBy.RESTORE:
            yield Cause(
                "memory",
                f"{took}: a warm sandbox was tried first, and did not answer; the demo's Event "
                "WarmSandboxUnfit says why",
                "check that the node does not swap and has processor time to spare; a warm sandbox "
                "that stops answering while it waits may need spec.pool.pause",
            )
        case "claim":
            yield Cause(
                "memory",
                f"{took}: a claim of a warm sandbox takes about 50 ms, unless its pages were "
                "swapped out or the node is busy",
                "check that the node does not swap and has processor time to spare",
            )


def _restore(took: str, facts: Facts) -> Cause:
    archive = facts.checkpoint.status.archive if facts.checkpoint else None
    weight = f" of {size(archive.size_bytes)}" if archive else ""
    restore, criu = facts.timings.restore or timedelta(), facts.timings.criu or timedelta()
    if criu >= restore / 2:
        is_large = archive is not None and archive.size_bytes >= LARGE_ARCHIVE_BYTES
        return Cause(
            "archive" if is_large else "disk",
            f"{took}, {seconds(criu)} of it in CRIU: reading the pages of an archive{weight}",
            "checkpoint the application with less memory, use a faster disk below "
            "CHECKPOINT_PATH, or keep warm sandboxes (spec.pool.warm)",
        )
    return Cause(
        "Podman",
        f"{took}, only {seconds(criu)} of it in CRIU: Podman's storage or network was slow",
        f"{_storage(facts.agent)}; many restores at once make each slower",
    )


def _probe(took: str, facts: Facts) -> Cause:
    if facts.demo.status.started_by is StartedBy.COLD_START:
        return Cause(
            "probe",
            f"{took}: the application's own start",
            "a restore does not need it; see above why the demo was started cold",
        )
    return Cause(
        "probe",
        f"{took}: the application was slow to answer after the restore",
        "it reconnects or reloads something: warm up those pages before the checkpoint "
        "(spec.warmUp.paths), or have it connect when needed",
    )


def _memory(facts: Facts) -> Iterator[Cause]:
    if facts.agent is not None and facts.agent.status.memory_available_bytes <= 0:
        yield Cause(
            "memory",
            f"{facts.agent.metadata.name} has no memory to spare (MEMORY_RESERVE_MIB is kept free)",
            "run fewer warm sandboxes or demos there, or add memory",
        )


def _storage(agent: NodeAgent | None) -> str:
    checks = agent.status.checks if agent else ()
    driver = next((c for c in checks if c.name == "storage driver"), None)
    if driver is None or driver.verdict is Verdict.PASS:
        return "look at the node's disk and load"
    return f"storage driver: {driver.remedy or driver.found}"


def _free(agent: NodeAgent | None) -> str:
    return size(agent.status.disk_available_bytes) if agent else "unknown space"
