"""The order of a run: one sample of each kind per round, so that noise hits all alike."""

from __future__ import annotations

from contextlib import ExitStack

from bench import by_hand, demos, footprint, imports, steady, table, unpacked
from bench.kept import kept
from bench.pod import Pod, pod
from bench.results import Results
from bench.roundtrip import Roundtrip, roundtrip
from bench.stage import COLD_POOL, WARM_POOL, Stage
from bench.transfer import Transfer, transfer
from lab.progress import log_line, step

ROUNDS_PER_BURST = 5
"""A burst takes as long as some rounds, and each of its demos is a sample already."""

ROUNDS_PER_COPY = 4
"""A copy starts a program, which takes longer than the copy."""


def run(stage: Stage, base: Stage | None, samples: int, results: Results) -> None:
    """Measure everything; what was measured is there even where the run ends early.

    Args:
        stage: The lab of this checkout.
        base: The lab of another one; it rests while this one is measured, and the other way round.
        samples: Number of rounds.
        results: Where the figures go.

    """
    with ExitStack() as open_things:
        with step("an archive by hand, and the handler that does nothing", usually="8 s"):
            by_hand.export_archive(stage)
            archive = kept(stage)[by_hand.NODE].archive
            ping = open_things.enter_context(roundtrip(stage))
            link = transfer(stage)
            results.archive_bytes = int(str(link.archive["sizeBytes"]))
            link.copy()  # once, so that both copies find the file in memory
        with step("the shop as a pod, checkpointed by the operator and by hand", usually="40 s"):
            both = pod(stage)
            stage.wait_full()
        for number in range(1, samples + 1):
            with step(f"round {number} of {samples}", usually="12 s"):
                _round(stage, results, ping, both, archive)
            if number % ROUNDS_PER_COPY == 1:
                _copies(results, link)
            log_line(table.latest(results))
            if number % ROUNDS_PER_BURST == 0 or number == samples < ROUNDS_PER_BURST:
                with step("bursts", usually="40 s"):
                    _bursts(stage, base, results)
        with step("steady demand", usually="120 s"):
            results.steady = steady.measure(stage)
            results.series["steady_ready"] = results.steady.ready
        with step("20 instances at rest", usually="35 s"):
            results.footprint = footprint.measure(stage)
        with step("imports of the programs", usually="15 s"):
            results.imports = imports.measure()


def _round(stage: Stage, results: Results, ping: Roundtrip, both: Pod, archive: str) -> None:
    restored = demos.measure(stage, COLD_POOL, demos.RESTORE)
    results.add("restore", restored.http)
    if restored.criu is not None:
        results.add("criu_restore", restored.criu)
    results.add("pod_restore", both.restore())
    # While the agents make anew the pre-created sandboxes that these two took, what is no concern
    # of theirs.
    results.add("cold_start", by_hand.cold_start(stage))
    results.add("podman_import", by_hand.import_archive(stage))
    results.add("archive_import", by_hand.import_into_pod(stage, archive))
    results.add("pod_import", both.by_hand())
    results.add("kopf_roundtrip", ping.measure())
    warm = demos.measure(stage, WARM_POOL, "Warm")
    results.add("warm_ready", warm.ready)
    results.add("warm_http", warm.http)
    stage.wait_full()


def _copies(results: Results, link: Transfer) -> None:
    copied = link.copy()
    results.add("copy", copied.took)
    results.copy_growth_bytes = max(results.copy_growth_bytes, copied.growth_bytes)
    results.add("curl_copy", link.curl())


def _bursts(stage: Stage, base: Stage | None, results: Results) -> None:
    results.add("burst_8", demos.burst(stage, WARM_POOL, 8).total)
    stage.wait_full()
    results.by_hand.add(unpacked.restores(stage, 24))
    sides = [(stage, "burst_32", results.bursts)]
    if base is not None:
        sides.append((base, "burst_32_base", results.base_bursts))
    # Each is the first as often as the other.
    for side, kind, bursts in reversed(sides) if len(results.bursts) % 2 else sides:
        burst = demos.burst(side, WARM_POOL, 32)
        results.add(kind, burst.total)
        bursts.append(burst)
        side.wait_full()
