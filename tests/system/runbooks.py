"""The commands that the pages of docs/runbooks/ tell people to run, run."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from lab import binaries, terminal
from lab.cluster import Cluster
from tests.pages import all_blocks, filled
from tests.unit.metrics.documented_queries import RUNBOOKS

PAGES = sorted(page.stem for page in RUNBOOKS.glob("TryItNow*.md"))


@dataclass(frozen=True)
class Command:
    """A command line for a shell, here or on a node, or an expression for Prometheus."""

    language: str
    text: str


def commands(page: str, words: Mapping[str, str]) -> list[Command]:
    """Return all that a page says to run, with the placeholders replaced by the words."""
    found = []
    for block in all_blocks():
        if block.page != f"runbooks/{page}.md":
            continue
        # An expression may have several lines; in a shell's block each line is a command.
        lines = [block.text] if block.mark == "promql" else block.text.splitlines()
        found += [Command(block.mark, filled(line, words)) for line in lines]
    return found


def run(cluster: Cluster, command: Command) -> str:
    """Run a command as a person would, who looks at that node; returns what it printed."""
    if command.language == "promql":
        promtool = binaries.tool("promtool")
        argv = [str(promtool), "query", "instant", cluster.prometheus, command.text]
    else:
        argv = ["bash", "-euo", "pipefail", "-c", command.text]
    environment = terminal.environment(cluster.kubeconfig)
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 or _only_went_away(done.stderr, command.text), (
        f"{command.text}: {done.stdout}{done.stderr}"
    )
    return done.stdout


_WENT_AWAY = re.compile(
    r"du: cannot (access|read directory) '(?P<path>[^']+)': No such file or directory"
)


def _only_went_away(complaints: str, text: str) -> bool:
    """Whether `du` ended with 1 only for files that went away under it, as a busy node's do.

    What it was asked for by name must be there.
    """
    *lines, end = complaints.splitlines() or [""]
    found = [_WENT_AWAY.fullmatch(line) for line in lines]
    return end == "command terminated with exit code 1" and all(
        line is not None and line["path"] not in text.split() for line in found
    )
