"""`make bench`: measure, log_line, write and draw."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

from bench import BenchError
from bench.base import base
from bench.picture import picture
from bench.results import Results
from bench.run import run
from bench.settings import CHECKOUT, Settings, settings
from bench.stage import stage
from bench.table import table
from lab import LabError
from lab.progress import log_line


def main() -> int:
    """Run once; returns the exit code."""
    # As with Ctrl-C: the lab goes down before the process does.
    signal.signal(signal.SIGTERM, _interrupt)
    results = Results()
    try:
        wanted = settings()
        with base(wanted) as other, stage(wanted) as ready:
            run(ready, other, wanted.samples, results)
    except (BenchError, LabError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        if results.series["cold_start"].n:
            log_line(f"\n{table(results)}\n")
        sys.stderr.write("bench: interrupted\n")
        return 130
    log_line(f"\n{table(results)}\n")
    _write(wanted, results)
    return 0


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _write(wanted: Settings, results: Results) -> None:
    build = CHECKOUT / "build"
    build.mkdir(exist_ok=True)
    drawn = CHECKOUT / "docs" if wanted.is_publishable else build
    drawn.mkdir(exist_ok=True)
    for path, content in (
        (build / "bench.json", results.to_json()),
        (drawn / "benchmarks.svg", picture(results)),
    ):
        path.write_text(content)
        log_line(f"wrote {_shown(path)}")


def _shown(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


if __name__ == "__main__":
    sys.exit(main())
