"""What people and hooks run in a demo has the demo's limits, and goes before the demo itself."""

from __future__ import annotations

import signal

import pytest

from lab.cluster import Cluster
from lab.machines.machine import Machine
from lab.progress import step
from tests.machines import guestbook
from tests.machines.guestbook import Guest
from tests.machines.waiting import ready_demo
from tests.system.objects import Objects
from tests.system.terminal import Terminal
from tryitnow.api.demoinstance import DemoInstance

DEMO = "victim"
KILLED = 128 + signal.SIGKILL


@pytest.fixture(scope="module")
def guest(demos: Objects) -> Guest:
    demos.demo(DEMO, guestbook.NAME)
    return Guest(ready_demo(demos, DEMO))


def test_the_kernel_kills_the_command_that_takes_all_memory_and_nothing_else(
    cluster: Cluster, machine: Machine, demos: Objects, guest: Guest, terminal: Terminal
) -> None:
    guest.write("here")
    before = restarts(cluster)
    with step("tail /dev/zero in tryitnow shell", usually="30 s"):
        terminal.run(f"tryitnow shell {DEMO} -- tail /dev/zero", code=KILLED)
    killed = machine.shell("journalctl --dmesg --output=cat --grep='Killed process' || true")
    assert killed
    assert all("(tail)" in line for line in killed.splitlines()), killed
    assert guest.entries() == ["here"]
    demo = demos.get(DemoInstance, DEMO)
    assert demo
    assert demo.status.restarts == 0
    assert restarts(cluster) == before


def restarts(cluster: Cluster) -> dict[str, int]:
    """Restarts of the operator's containers."""
    listed = cluster.api.get("/api/v1/namespaces/tryitnow-system/pods") or {"items": []}
    return {
        f"{pod['metadata']['name']}/{status['name']}": status["restartCount"]
        for pod in listed["items"]
        for kind in ("initContainerStatuses", "containerStatuses")
        for status in pod["status"].get(kind, [])
    }
