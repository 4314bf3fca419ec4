"""Renders the chart, and from it the files of manifests/ that kustomize takes.

``python -m charts.render DIRECTORY`` writes those files.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from charts import CHART
from lab import binaries
from lab.shell import run

NAMESPACE = "tryitnow-system"

FILES = (
    "controller-rbac.yaml",
    "agent-rbac.yaml",
    "agent-admission.yaml",
    "user-roles.yaml",
    "controller.yaml",
    "agent.yaml",
    "networkpolicy.yaml",
)
"""Templates that are manifests as well. CRDs are in crds/; hooks are Helm's."""

# Labels that would claim that Helm looks after the objects.
_HELMS_OWN = re.compile(
    r"^ +(?:app\.kubernetes\.io/(?:managed-by|instance)|helm\.sh/chart): .*\n|^# Source: .*\n", re.M
)
_HEADER = "# Rendered from charts/try-it-now by `make manifests`.\n"


def helm(*words: str | Path) -> str:
    """Run the Helm that the project tests with."""
    return run(binaries.tool("helm"), *words)


def template(*more: str, files: tuple[Path, ...] = (), only: str = "") -> str:
    """Render the chart as `helm template` does."""
    words: list[str | Path] = ["template", "try-it-now", CHART, f"--namespace={NAMESPACE}"]
    words += [f"--values={file}" for file in files]
    words += more
    words += [f"--show-only=templates/{only}"] if only else []
    return helm(*words)


def manifests() -> dict[str, str]:
    """Name and content of each file of manifests/ that comes from the chart."""
    found = {}
    for name in FILES:
        documents = _HELMS_OWN.sub("", template(only=name)).split("---\n")
        parts = [document.strip("\n") for document in documents if document.strip()]
        found[name] = _HEADER + "\n---\n".join(parts) + "\n"
    return found


def main(directory: Path) -> None:
    """Write the files of manifests/."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in manifests().items():
        (directory / name).write_text(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
