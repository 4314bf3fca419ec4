"""The environment of a person's terminal in a lab: kubectl, and the programs of this checkout."""

from __future__ import annotations

import sys
from pathlib import Path

from lab import binaries
from lab.cluster import CHECKOUT
from lab.shell import CLEAN_ENVIRONMENT

_PROGRAMS = {
    "tryitnow": "-m tryitnow",
    "kubectl-tryitnow": "-m tryitnow",
    "kubectl_complete-tryitnow": (
        "-c 'from tryitnow.cli.completion import complete_for_kubectl as run; run()'"
    ),
    "python3": "",
}
"""What `pip install try-it-now` would put into PATH, and the Python that it was installed for."""


def environment(kubeconfig: Path, *programs: Path) -> dict[str, str]:
    """Return what a shell starts with; directories of programs come before the machine's own."""
    path = [*programs, binaries.kubectl_directory(), CLEAN_ENVIRONMENT["PATH"]]
    return {
        **CLEAN_ENVIRONMENT,
        "KUBECONFIG": str(kubeconfig),
        "PATH": ":".join(map(str, path)),
        "PYTHONPATH": str(CHECKOUT / "operator"),
    }


def install(programs: Path) -> None:
    """Put this checkout's programs into a directory, as pip would."""
    programs.mkdir(parents=True, exist_ok=True)
    for name, arguments in _PROGRAMS.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        program.chmod(0o755)
