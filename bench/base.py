"""The lab of another checkout, so that its figures and this one's are measured in one run.

That checkout's own command line brings it up and takes it down, so its lab is what it was.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench import BenchError
from bench.settings import CHECKOUT, Settings
from bench.stage import Stage, furnished, is_folder
from lab.cluster import Cluster
from lab.progress import log_line, step


@contextlib.contextmanager
def base(settings: Settings) -> Iterator[Stage | None]:
    """Bring that lab up with the same application; None where no other checkout is named."""
    if settings.base is None:
        yield None
        return
    checkout = settings.base
    name = f"{settings.lab}base"
    try:
        with step(f"lab {name} of {checkout}"):
            _lab(checkout, "up", f"--name={name}", "--nodes=2")
            image = settings.app
            if is_folder(image):
                image = _lab(checkout, "image", f"--name={name}", _app(image)).strip()
        # Of this checkout's lab only what finds the other one's files and addresses is used.
        with furnished(Cluster(name), _template(checkout, settings.template), image) as ready:
            yield ready
    finally:
        if settings.keep:
            log_line(f"the lab stays: cd {checkout}; python -m lab down --name {name}")
        else:
            with step(f"lab {name} down"):
                _lab(checkout, "down", f"--name={name}")


def _lab(checkout: Path, *words: str) -> str:
    argv = [sys.executable, "-m", "lab", *words]
    done = subprocess.run(argv, cwd=checkout, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"`python -m lab {' '.join(words)}` failed in {checkout}: {done.stdout}")
    return done.stdout


def _app(app: str) -> str:
    """Name an application so that the other checkout finds it too."""
    return str(Path(app).resolve()) if (Path(app) / "app.json").exists() else app


def _template(checkout: Path, file: Path) -> Path:
    """The Checkpoint as the other checkout writes it, where it has that file."""
    if not file.is_relative_to(CHECKOUT):
        return file
    own = checkout / file.relative_to(CHECKOUT)
    return own if own.is_file() else file
