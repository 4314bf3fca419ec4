"""Restores by hand from what the agents unpacked: what a burst costs without an operator."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import Future, ThreadPoolExecutor

from bench import by_hand
from bench.kept import Kept, kept
from bench.stage import Stage

PARALLEL = 2
"""Restores at once on a node: what an agent allows itself on two cores."""

# What an agent does for each demo where no pre-created sandbox waits, but for the firewall
# (operator/tryitnow/agent/restore/precreate.py).
_RESTORE = """
podman pod create --name "$1" --publish "$2"
podman pod start "$1"
podman create --quiet --pod "$1" --name "$1-main" --image-volume=ignore --http-proxy=false "$3"
podman container init "$1-main"
podman stop --time=0 "$1-main"
beside=$(podman inspect --format '{{.StaticDir}}' "$1-main")
for file in checkpoint devshm-checkpoint.tar; do
    [ ! -e "$4/$file" ] || ln -s "$4/$file" "$beside/$file"
done
podman container restore --keep --file-locks --tcp-close "$1-main"
"""


def restores(stage: Stage, count: int) -> float:
    """So many restores, spread over the nodes, to all answers."""
    files = kept(stage)
    nodes = itertools.islice(itertools.cycle(files), count)
    jobs = [
        (node, f"bench-hand-{number}", next(by_hand.ports)) for number, node in enumerate(nodes)
    ]
    began = time.perf_counter()
    pools = {node: ThreadPoolExecutor(PARALLEL) for node in files}
    probes = ThreadPoolExecutor(count)
    try:
        answers = []
        for node, name, port in jobs:
            restore = pools[node].submit(_restore, stage, node, files[node], name, port)
            answers.append(probes.submit(_answer_after, stage, restore, node, port))
        return max(answer.result() for answer in answers) - began
    finally:
        for pool in (*pools.values(), probes):
            pool.shutdown()
        for node in files:
            names = [name for on, name, _ in jobs if on == node]
            by_hand.podman(stage, node, ["pod", "rm", "--force", "--time=0", "--ignore", *names])


def _restore(stage: Stage, node: str, files: Kept, name: str, port: int) -> None:
    words = [name, f"{port}:{stage.port}", files.image, files.directory]
    by_hand.run(stage, node, ["sh", "-euc", _RESTORE, "by-hand", *words])


def _answer_after(stage: Stage, restore: Future[None], node: str, port: int) -> float:
    restore.result()
    return stage.website.wait(stage.cluster.node_address(node), port, by_hand.WITHIN_S)
