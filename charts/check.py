"""Renders the chart with each set of values and has kubeconform check all that comes out.

``python -m charts.check``; the sets are the files of charts/values/.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from charts import CHART, ROOT, schemas
from charts.render import helm, template
from lab import binaries
from lab.shell import CommandFailedError

VALUES = ROOT / "charts/values"


def value_sets() -> dict[str, tuple[Path, ...]]:
    """Name and files of each set of values that is checked; the chart's own first."""
    return {"default": (), **{file.stem: (file,) for file in sorted(VALUES.glob("*.yaml"))}}


def conform(rendered: str) -> str:
    """Check objects against their schemas; returns what kubeconform says.

    Raises:
        CommandFailedError: an object does not fit, or its kind is unknown.

    """
    location = f"{schemas.directory()}/{schemas.LOCATION}"
    argv = [str(binaries.tool("kubeconform")), "-strict", "-summary",
            f"-schema-location={location}", "-"]  # fmt: skip
    done = subprocess.run(argv, input=rendered, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailedError(argv, done.returncode, done.stdout + done.stderr)
    return done.stdout.strip()


def main() -> None:
    """Check all sets."""
    for name, files in value_sets().items():
        helm("lint", "--strict", CHART, *(f"--values={file}" for file in files))
        sys.stdout.write(f"{name}: {conform(template(files=files))}\n")


if __name__ == "__main__":
    main()
