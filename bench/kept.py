"""What the operator keeps of a Checkpoint on a node, for a restore by hand from the same files."""

from __future__ import annotations

import json
from dataclasses import dataclass

from bench import BenchError
from bench.stage import COLD_POOL, COPIES, REVISIONS, Stage

_HOME = "/var/lib/try-it-now"
"""Where the agents keep their files on a node."""


@dataclass(frozen=True)
class Kept:
    """The files of the Checkpoint without warm sandboxes."""

    archive: str
    image: str
    """Made of the archive's root files."""

    directory: str
    """Has CRIU's images, unpacked."""


def kept(stage: Stage) -> dict[str, Kept]:
    """Return what each node keeps."""
    copies = stage.client.get(COPIES)["items"]
    return {
        copy["spec"]["nodeName"]: _on(stage, copy["spec"]["nodeName"], copy["spec"]["revision"])
        for copy in copies
        if copy["spec"]["checkpoint"] == COLD_POOL
    }


def _on(stage: Stage, node: str, revision: str) -> Kept:
    """Find the newest generation of the archive (operator/tryitnow/agent/storage)."""
    definition = stage.client.get(f"{REVISIONS}/{COLD_POOL}-{revision}")["spec"]["definition"]
    container = definition["template"]["containers"][0]["name"]
    plain = definition.get("criu", {}).get("compression") == "None"
    stem = f"default_{COLD_POOL}_{revision}"
    home = stage.cluster.lab.node_directory(node) / "data" / "data" / stem
    marks = sorted(home.glob("[0-9]*/generation.json"), key=lambda mark: int(mark.parent.name))
    if not marks:
        raise BenchError(f"{node} has nothing unpacked in {home}; is its NodeCheckpoint Ready?")
    return Kept(
        archive=f"{_HOME}/checkpoints/{stem}.tar{'' if plain else '.zst'}",
        image=json.loads(marks[-1].read_text())["images"][container],
        directory=f"{_HOME}/data/{stem}/{marks[-1].parent.name}/{container}",
    )
