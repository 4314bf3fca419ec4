"""What a run measures, and how often: from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import BenchError

CHECKOUT = Path(__file__).resolve().parent.parent
SAMPLES = CHECKOUT / "manifests/samples"

DEFAULT_APP = "wordpress"
ENOUGH_SAMPLES = 20
"""Below this a p95 is the maximum, and the figures are for whoever works on the bench."""


@dataclass(frozen=True)
class Settings:
    """One run."""

    samples: int
    app: str
    """A name in lab/apps, an application's folder, or the reference of an image."""

    template: Path
    """A file with the Checkpoint: its container, readiness and warm-up."""

    lab: str
    keep: bool
    """Leave the lab up afterwards."""

    base: Path | None = None
    """A checkout of another commit, whose bursts are measured in turn with this one's."""

    @property
    def is_publishable(self) -> bool:
        """Whether the picture in docs/ may show it."""
        return self.app == DEFAULT_APP and self.samples >= ENOUGH_SAMPLES


def settings(env: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        BenchError: one of them cannot be used.

    """
    app = env.get("BENCH_IMAGE") or DEFAULT_APP
    base = env.get("BENCH_BASE", "")
    return Settings(
        samples=_samples(env.get("BENCH_SAMPLES") or str(ENOUGH_SAMPLES)),
        app=app,
        template=_template(app, env.get("BENCH_TEMPLATE", "")),
        lab=env.get("BENCH_LAB") or "bench",
        keep=env.get("BENCH_KEEP", "") not in {"", "0"},
        base=_checkout(base) if base else None,
    )


def _samples(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise BenchError(f"BENCH_SAMPLES={text!r} is no number of samples; give 1 or more")
    return int(text)


def _checkout(given: str) -> Path:
    path = Path(given).resolve()
    if not (path / "lab/__main__.py").is_file() or path == CHECKOUT:
        raise BenchError(
            f"BENCH_BASE={given!r} is no other checkout of this repository; make one with "
            "`git worktree add DIRECTORY COMMIT`"
        )
    return path


def _template(app: str, given: str) -> Path:
    name = Path(app).name.partition(":")[0].partition("@")[0]
    path = Path(given) if given else SAMPLES / f"{name}.yaml"
    if not path.is_file():
        raise BenchError(
            f"{path} is missing: set BENCH_TEMPLATE to a file with the Checkpoint of {app}, "
            f"written like {SAMPLES / DEFAULT_APP}.yaml; its image is replaced by BENCH_IMAGE"
        )
    return path
