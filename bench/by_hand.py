"""Podman by hand on a node, from the start of its command line to the first answer."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from bench import BenchError
from bench.stage import COLD_POOL, COPIES, Stage

NODE = "node-1"
ARCHIVE = "/var/tmp/by-hand.tar.zst"
PARALLEL = 2
"""Restores at once on a node: what an agent allows itself on two cores."""

WITHIN_S = 120.0

# Beyond the ports that agents give out (PORT_RANGE, 20000-20999).
_ports = itertools.cycle(range(21000, 22000))

RESTORE = ["container", "restore", "--file-locks", "--tcp-close", "--ignore-static-ip",
           "--ignore-static-mac"]  # fmt: skip
CHECKPOINT = ["container", "checkpoint", "--file-locks", "--tcp-established"]


def cold_start(stage: Stage) -> float:
    """`podman run` to the first answer."""
    with _container(stage, NODE, "bench-cold") as (name, port):
        argv = ["run", "--detach", f"--name={name}", f"--publish={port}:{stage.port}", stage.image]
        return until_answer(stage, NODE, lambda: podman(stage, NODE, argv), port)


def import_archive(stage: Stage) -> float:
    """`podman container restore --import` of a default export, to the first answer."""
    with _container(stage, NODE, "bench-import") as (name, port):
        argv = [*RESTORE, f"--import={ARCHIVE}", f"--name={name}",
                f"--publish={port}:{stage.port}"]  # fmt: skip
        return until_answer(stage, NODE, lambda: podman(stage, NODE, argv), port)


def export_archive(stage: Stage) -> None:
    """Start, warm up and freeze the application, as a person would."""
    with _container(stage, NODE, "bench-freeze") as (name, port):
        argv = ["run", "--detach", f"--name={name}", f"--publish={port}:{stage.port}", stage.image]
        until_answer(stage, NODE, lambda: podman(stage, NODE, argv), port)
        for path in stage.website.warm_up:
            stage.website.ask(stage.cluster.node_address(NODE), port, path)
        podman(stage, NODE, [*CHECKPOINT, f"--export={ARCHIVE}", name])


def prepared_restores(stage: Stage, count: int) -> float:
    """So many restores from what the agents prepared, spread over the nodes, to all answers."""
    prepared = _prepared(stage)
    nodes = [node for node, _ in zip(itertools.cycle(prepared), range(count), strict=False)]
    jobs = [(node, f"bench-prepared-{number}", next(_ports)) for number, node in enumerate(nodes)]
    began = time.perf_counter()
    pools = {node: ThreadPoolExecutor(PARALLEL) for node in prepared}
    probes = ThreadPoolExecutor(count)
    try:
        answers = []
        for node, name, port in jobs:
            thaw = pools[node].submit(_restore_prepared, stage, node, prepared[node], name, port)
            answers.append(probes.submit(_answer_after, stage, thaw, node, port))
        return max(answer.result() for answer in answers) - began
    finally:
        for pool in (*pools.values(), probes):
            pool.shutdown()
        for node in prepared:
            names = [name for on, name, _ in jobs if on == node]
            podman(stage, node, ["rm", "--force", "--time=0", "--volumes", "--ignore", *names])


def _answer_after(stage: Stage, thaw: Future[None], node: str, port: int) -> float:
    thaw.result()
    return stage.website.wait(stage.cluster.node_address(node), port, WITHIN_S)


# What an agent does for each demo where no slot waits (operator/tryitnow/agent/slot.py).
_INTO_SLOT = """
podman create --quiet --name "$1" --publish "$2" "$3"
podman container init "$1"
podman stop --time=0 "$1"
beside=$(podman inspect --format '{{.StaticDir}}' "$1")
for file in checkpoint devshm-checkpoint.tar; do
    [ ! -e "$4/$file" ] || ln -s "$4/$file" "$beside/$file"
done
podman container restore --keep --file-locks --tcp-close "$1"
"""


def _restore_prepared(
    stage: Stage, node: str, prepared: tuple[str, str], name: str, port: int
) -> None:
    words = [name, f"{port}:{stage.port}", *prepared]
    _run(stage, node, ["sh", "-euc", _INTO_SLOT, "by-hand", *words])


def _prepared(stage: Stage) -> dict[str, tuple[str, str]]:
    """Image and directory of what each node's agent prepared."""
    found = {}
    for copy in stage.client.get(COPIES)["items"]:
        spec = copy["spec"]
        if spec["checkpoint"] == COLD_POOL:
            container = spec["blueprint"]["template"]["containers"][0]["name"]
            tag = f"{copy['status']['archive']['sha256'][:32]}-{container}"
            directory = f"default_{COLD_POOL}_{spec['revision']}/{container}"
            found[spec["nodeName"]] = (
                f"localhost/tryitnow/prepared:{tag}",
                f"/var/lib/try-it-now/data/{directory}",
            )
    return found


@contextmanager
def _container(stage: Stage, node: str, name: str) -> Iterator[tuple[str, int]]:
    """A name and a port for a container, which is removed afterwards."""
    try:
        yield name, next(_ports)
    finally:
        podman(stage, node, ["rm", "--force", "--time=0", "--volumes", "--ignore", name])


@contextmanager
def pod(stage: Stage, name: str) -> Iterator[tuple[str, int]]:
    """A name and a port for a pod, which is removed afterwards."""
    try:
        yield name, next(_ports)
    finally:
        podman(stage, NODE, ["pod", "rm", "--force", "--time=0", "--ignore", name])


def until_answer(stage: Stage, node: str, start: Callable[[], None], port: int) -> float:
    """How long a start takes to the first answer at a port."""
    began = time.perf_counter()
    # Asked only afterwards: requests to a container that is being restored made the restore itself
    # take 7 s instead of 2 s, and nothing could have answered them.
    start()
    address = stage.cluster.node_address(node)
    return stage.website.wait(address, port, WITHIN_S) - began


def podman(stage: Stage, node: str, argv: list[str]) -> None:
    """Run Podman's command line on a node."""
    _run(stage, node, ["podman", *argv])


def _run(stage: Stage, node: str, argv: list[str]) -> None:
    # What podman leaves running would hold a pipe of ours open.
    with tempfile.TemporaryFile("w+") as output:
        podman = stage.cluster.popen(node, argv, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = podman.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            podman.kill()
            code = podman.wait()
        if code != 0:
            output.seek(0)
            said = output.read().strip()[-500:]
            raise BenchError(f"`{' '.join(argv)}` on {node} ended with {code}: {said}")
