"""``docs/metrics.md`` from the catalogue: ``python -m tryitnow.metrics.page FILE`` writes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tryitnow.metrics.catalogue import exposed_by
from tryitnow.metrics.family import Family, Program, Timed

_HEAD = """\
<!-- Generated from operator/tryitnow/metrics by `make docs`. Do not edit. -->
# Metrics

Both programs serve `/metrics` (Prometheus), `/healthz` (200 while the program lives) and `/readyz`
(200 once it knows the cluster and, on a node, Podman's containers; before that 503 and the reason).
The port is `METRICS_PORT`: by default 8080 for the controller and 9444 for the agents, which listen
on their node's address. By default no authentication is needed: the metrics contain numbers,
versions, and names of Checkpoints, namespaces and nodes.

With the chart's `monitoring.tokenSecret` a scrape must show the token in the key `token` of that
Secret, which is of use for nothing else; `/healthz` and `/readyz` need none. Make it of 32 random
bytes, such as `openssl rand -hex 32` writes. A changed one counts without a restart.

State is read at each scrape, and at most once a second: it is never older than that. The
controller's metrics about a node have a `node` label: they are there when that node's agent is
silent. An agent's metrics about its own node have no such label: scrape them with the node's name
as the target label `node`, as [the example](../manifests/prometheus/scrape.yaml) does.

`method`, `policy`, `phase` and `fallback_reason` have the values of the resources' status. When a
program restarts, its counters begin at 0. Series of a Checkpoint end with its last NodeCheckpoint
on the node.

The alerts are in [manifests/prometheus](../manifests/prometheus/rules.yaml), each with
[a page on what to do](runbooks/README.md).
"""

_TITLES = {
    Program.CONTROLLER: "Controller",
    Program.AGENT: "Agent, one per node",
}


def rendered() -> str:
    """Return the page."""
    return _HEAD + "".join(line for program in Program for line in _section(program))


def _section(program: Program) -> Iterator[str]:
    yield f"\n## {_TITLES[program]}\n"
    for family in exposed_by(program):
        yield from _entry(family)


def _entry(family: Family) -> Iterator[str]:
    labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
    yield f"\n### {family.name}\n\n{family.help}\n\n"
    yield f"Type: {family.type}. Labels: {labels}.\n"
    if isinstance(family, Timed):
        bounds = ", ".join(f"{bound:g}" for bound in family.buckets)
        yield f"Bounds in seconds: {bounds}.\n"


def main() -> None:
    """Write the page into the file named by the first argument."""
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rendered())


if __name__ == "__main__":
    main()
