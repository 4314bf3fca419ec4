"""One lab for all system tests: a control plane, a registry, two nodes, the operator."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import images, operator_image
from lab.cluster import Cluster
from tests.system.nodes import NODES, LabNodes
from tests.system.objects import Objects, own_namespace
from tests.system.terminal import Terminal

_numbers = itertools.count(1)

GONE_WITHIN = 75.0
"""Seconds: an orphan that a killed program left is found by the look that comes every 30 s."""

LONG = ("release", "bad_days", "fallback", "crashes", "alerts", "image_runs", "instances")
"""Files that take minutes each. They come first: one that is begun last keeps a lab busy alone."""

_BUG = re.compile(r"unexpected error|failed with an exception")
"""What our own loops and Kopf say of an exception that nobody expected."""

LOG_SHOWN = 6000
"""Characters of a program's log, from its end."""

Kubectl = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first."""
    long = [f"test_{name}" for name in LONG]
    items.sort(key=lambda item: long.index(item.path.stem) if item.path.stem in long else len(long))


def _lab_name() -> str:
    """One lab for each of the processes that pytest-xdist spreads the files over."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    return os.environ.get("TEST_LAB", "test") + worker.removeprefix("gw")


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A place for temporary files that goes with the tests.

    The Kubernetes client writes a kubeconfig's keys to such files, and removes them when the
    interpreter ends in good order: a worker of pytest-xdist never does.
    """
    tmp_path_factory.getbasetemp()  # stays where pytest has it
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="try-it-now-test-") as directory:
        tempfile.tempdir = directory
        yield
        tempfile.tempdir = before


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of its own, whatever else runs on this machine; gone afterwards in every case."""
    lab = Cluster(_lab_name(), nodes=len(NODES))
    lab.down()
    try:
        lab.up()
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="session")
def notes_image(cluster: Cluster) -> str:
    """A small application, quick to start and to checkpoint, which misbehaves on demand."""
    return images.ensure(cluster, "notes")


@pytest.fixture(scope="session")
def shipped() -> str:
    """The operator's image, as this checkout makes it, in the storage of the lab's builder."""
    return operator_image.build()


@pytest.fixture(scope="session")
def shipped_to_nodes(cluster: Cluster, shipped: str) -> str:
    """The same in the lab's registry."""
    return operator_image.push(shipped, cluster.registry)


@pytest.fixture(scope="session")
def shop_images(cluster: Cluster) -> dict[str, str]:
    """The two images of the heavy application that runs as a pod."""
    return {name: images.ensure(cluster, name) for name in ("shop", "database")}


@pytest.fixture(scope="session")
def nodes(cluster: Cluster) -> LabNodes:
    return LabNodes(cluster)


@pytest.fixture
def kubectl(cluster: Cluster) -> Kubectl:
    """The real kubectl, as the administrator."""

    def run(*words: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return cluster.kubectl(*words, check=False, stdin=stdin)

    return run


@pytest.fixture(scope="module")
def module_objects(cluster: Cluster, nodes: LabNodes) -> Iterator[Objects]:
    """A namespace for what the tests of a file share."""
    yield from _namespace(cluster, nodes)


@pytest.fixture(scope="module")
def terminal(
    cluster: Cluster, module_objects: Objects, tmp_path_factory: pytest.TempPathFactory
) -> Terminal:
    """A person's terminal in the namespace that the tests of a file share."""
    return Terminal(cluster, module_objects.namespace, tmp_path_factory.mktemp("terminal"))


@pytest.fixture
def objects(cluster: Cluster, nodes: LabNodes) -> Iterator[Objects]:
    """A namespace of the test's own; when it is deleted, nothing of it may be left on any node."""
    yield from _namespace(cluster, nodes)


def _namespace(cluster: Cluster, nodes: LabNodes) -> Iterator[Objects]:
    name = f"test-{next(_numbers)}"
    with own_namespace(cluster.kubeconfig, name, GONE_WITHIN) as objects:
        yield objects
    nodes.wait_clean(name, GONE_WITHIN)


@pytest.fixture(autouse=True)
def _logs(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[None]:
    """Show what the programs wrote during a test, should it fail."""
    logs = {unit: cluster.log(unit) for unit in ["controller", *(f"agent-{n}" for n in NODES)]}
    before = {unit: log.stat().st_size if log.exists() else 0 for unit, log in logs.items()}
    yield
    for unit, log in logs.items():
        written = log.read_bytes()[before[unit] :].decode(errors="replace")
        request.node.add_report_section("teardown", f"log of {unit}", written[-LOG_SHOWN:])
        # Whatever can go wrong is worth a line of its own: these are told of bugs of ours.
        bugs = [line for line in written.splitlines() if _BUG.search(line)]
        assert not bugs, f"{unit} met a bug: {bugs[0]}"
