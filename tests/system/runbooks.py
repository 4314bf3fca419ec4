"""The commands that the pages of docs/runbooks/ tell people to run, run."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from lab import binaries
from lab.cluster import Cluster
from lab.shell import CLEAN_ENVIRONMENT
from tests.pages import all_blocks, filled
from tests.unit.metrics.asked import RUNBOOKS

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


def run(cluster: Cluster, node: str, command: Command) -> str:
    """Run a command as a person would, who looks at that node; returns what it printed."""
    if command.language == "sh node":
        return cluster.exec(node, ["sh", "-euc", command.text]).stdout
    if command.language == "promql":
        promtool = binaries.tool("promtool")
        argv = [str(promtool), "query", "instant", cluster.prometheus, command.text]
    else:
        argv = ["bash", "-euo", "pipefail", "-c", command.text]
    environment = {
        **CLEAN_ENVIRONMENT,
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{binaries.kubectl_directory()}:{CLEAN_ENVIRONMENT['PATH']}",
    }
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{command.text}: {done.stdout}{done.stderr}"
    return done.stdout
