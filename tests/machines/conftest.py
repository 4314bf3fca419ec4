"""A lab of virtual machines: real nodes with a kubelet, and the operator installed from its image.

What takes long says how far it is (lab/progress.py); run pytest with `-s` to see it.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator

import pytest

from lab import images
from lab.cluster import Cluster
from lab.machines.machine import Machine
from tests.machines import guestbook
from tests.machines.guestbook import FOLDER
from tests.machines.waiting import GONE_WITHIN, ready_checkpoint
from tests.system.leftovers import leftovers
from tests.system.objects import Objects, own_namespace, wait_until
from tests.system.terminal import Terminal
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance

_numbers = itertools.count(1)

LOG_SHOWN = 6000
"""Characters of a log, from its end."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of its own with one machine; gone afterwards in every case.

    But with TEST_KEEP=1 it stays, and the next run takes it as it is: for work on the tests.
    """
    keep = os.environ.get("TEST_KEEP") == "1"
    lab = Cluster(os.environ.get("TEST_LAB", "machines"), nodes=0, machines=1)
    if not keep:
        lab.down()
    try:
        lab.up()
        yield lab
    finally:
        if not keep:
            lab.down()
            left = leftovers(lab.lab.name)
            assert not any(left.values()), left


@pytest.fixture(scope="session")
def machine(cluster: Cluster) -> Machine:
    (found,) = cluster.machines.values()
    return found


@pytest.fixture(scope="session")
def guestbook_image(cluster: Cluster) -> str:
    return images.ensure(cluster, FOLDER)


@pytest.fixture(scope="session")
def all_objects(cluster: Cluster) -> Iterator[Objects]:
    """The namespace of what files share: a build takes minutes here."""
    yield from _namespace(cluster)


@pytest.fixture(scope="session")
def checkpointed(all_objects: Objects, guestbook_image: str) -> Checkpoint:
    """The guestbook, ready for demos on the machine's own hardware."""
    all_objects.checkpoint(guestbook.NAME, guestbook.spec(guestbook_image))
    return ready_checkpoint(all_objects, guestbook.NAME)


@pytest.fixture(scope="module")
def demos(all_objects: Objects, checkpointed: Checkpoint) -> Iterator[Objects]:
    """Where a file has demos of the guestbook; they go with the file."""
    assert checkpointed
    yield all_objects
    all_objects.delete_all(DemoInstance)
    wait_until(lambda: not all_objects.all(DemoInstance), "all demos to be gone", GONE_WITHIN)


@pytest.fixture
def terminal(
    cluster: Cluster, demos: Objects, tmp_path_factory: pytest.TempPathFactory
) -> Terminal:
    """A person's terminal, in the namespace of the demos."""
    return Terminal(cluster, demos.namespace, tmp_path_factory.mktemp("terminal"))


@pytest.fixture(scope="module")
def objects(cluster: Cluster) -> Iterator[Objects]:
    """A namespace of a file that has Checkpoints of its own."""
    yield from _namespace(cluster)


def _namespace(cluster: Cluster) -> Iterator[Objects]:
    # In a lab that was kept, those of an earlier run may still be on their way out.
    name = f"test-{int(time.time())}-{next(_numbers)}"
    with own_namespace(cluster.kubeconfig, name, GONE_WITHIN) as objects:
        yield objects


@pytest.fixture(autouse=True)
def _logs(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[None]:
    """Show what there is to see when a test fails."""
    yield
    report = getattr(request.node, "report", None)
    if report is not None and report.passed:
        return
    for name, machine in cluster.machines.items():
        console = machine.console.read_text(errors="replace")
        request.node.add_report_section("teardown", f"console of {name}", console[-LOG_SHOWN:])
    for part in ("controller", "agent"):
        selector = f"--selector=app.kubernetes.io/component={part}"
        words = ("-n", "tryitnow-system", "logs", selector, "--all-containers", "--tail=80")
        text = cluster.kubectl(*words, check=False).stdout
        request.node.add_report_section("teardown", f"log of {part}", text[-LOG_SHOWN:])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Let fixtures know how the test ended."""
    report = yield
    if call.when == "call":
        item.report = report  # type: ignore[attr-defined]
    return report
