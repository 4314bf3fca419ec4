"""Podman by hand on a node, from the start of its command line to the first answer."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench import BenchError
from bench.stage import Stage

NODE = "node-1"
ARCHIVE = "/var/tmp/by-hand.tar.zst"
WITHIN_S = 120.0

# Beyond the ports that agents give out (PORT_RANGE, 20000-20999).
ports = itertools.cycle(range(21000, 22000))

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


def import_into_pod(stage: Stage, archive: str) -> float:
    """`podman pod create` and `podman container restore --import --pod` of an operator's archive.

    As the metadata beside the archive tells people to do.
    """
    with pod(stage, "bench-archive") as (name, port):

        def restore() -> None:
            podman(stage, NODE, create_pod(name, f"{port}:{stage.port}"))
            argv = [*RESTORE, f"--import={archive}", f"--name={name}-main", f"--pod={name}"]
            podman(stage, NODE, argv)

        return until_answer(stage, NODE, restore, port)


def create_pod(name: str, published: str) -> list[str]:
    """The command that makes a pod."""
    return ["pod", "create", f"--name={name}", f"--publish={published}"]


def export_archive(stage: Stage) -> None:
    """Start, warm up and checkpoint the application, as a person would."""
    with _container(stage, NODE, "bench-checkpoint") as (name, port):
        argv = ["run", "--detach", f"--name={name}", f"--publish={port}:{stage.port}", stage.image]
        until_answer(stage, NODE, lambda: podman(stage, NODE, argv), port)
        for path in stage.website.warm_up:
            stage.website.ask(stage.cluster.node_address(NODE), port, path)
        podman(stage, NODE, [*CHECKPOINT, f"--export={ARCHIVE}", name])


@contextmanager
def _container(stage: Stage, node: str, name: str) -> Iterator[tuple[str, int]]:
    """A name and a port for a container, which is removed afterwards."""
    try:
        yield name, next(ports)
    finally:
        podman(stage, node, ["rm", "--force", "--time=0", "--volumes", "--ignore", name])


@contextmanager
def pod(stage: Stage, name: str) -> Iterator[tuple[str, int]]:
    """A name and a port for a pod, which is removed afterwards."""
    try:
        yield name, next(ports)
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
    run(stage, node, ["podman", *argv])


def run(stage: Stage, node: str, argv: list[str]) -> None:
    """Run a command on a node."""
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
