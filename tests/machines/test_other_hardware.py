"""The same disk in a machine with another kernel, and with another processor.

What was Ready is proven again before a demo is restored from it; where that fails, no demo is sent
into a restore that cannot succeed, and the condition names the feature that is missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.machines import fleet, kernels
from lab.machines.machine import Machine
from lab.machines.qemu import Hardware
from lab.progress import step
from tests.machines import guestbook
from tests.machines.guestbook import Guest
from tests.machines.waiting import READY_WITHIN, ready_checkpoint, ready_demo, wait_long
from tests.system.objects import Objects, is_true
from tryitnow.api.demoinstance import DemoInstance, StartedBy
from tryitnow.api.nodecheckpoint import NodeCheckpoint, NodeCheckpointPhase

OLD_PROCESSOR = "Nehalem"
"""Of 2008: without XSAVE and AVX."""


@pytest.fixture(scope="module")
def guest(objects: Objects, guestbook_image: str) -> Guest:
    """Someone with a demo of what was checkpointed on the machine's own hardware."""
    objects.checkpoint(guestbook.NAME, guestbook.spec(guestbook_image))
    ready_checkpoint(objects, guestbook.NAME)
    objects.demo("kept", guestbook.NAME)
    guest = Guest(ready_demo(objects, "kept"))
    guest.write("from before")
    return guest


@pytest.fixture(scope="module", autouse=True)
def _own_hardware_again(cluster: Cluster, machine: Machine) -> Iterator[None]:
    yield
    exchange(cluster, machine, kernel=kernels.OWN, cpu=Hardware().cpu)


def exchange(cluster: Cluster, machine: Machine, **hardware: Any) -> None:
    """Switch the machine off and on with other hardware; it stays on where it has that already."""
    if dataclasses.replace(machine.hardware, **hardware) == machine.hardware:
        return
    shown = ", ".join(f"{name} {value}" for name, value in hardware.items())
    with step(f"{machine.name} with {shown}", usually="2 min"):
        machine.power_off()
        machine.power_on(**hardware)
        fleet.wait_ready(machine, cluster.api)


@pytest.mark.parametrize("release", ["trixie", "bookworm"])
def test_demos_are_restored_on_an_older_kernel(
    cluster: Cluster, machine: Machine, objects: Objects, guest: Guest, release: str
) -> None:
    exchange(cluster, machine, kernel=release)
    version = machine.run("uname", "-r").stdout.strip()
    assert version == kernels.get(release).version
    wait_long(guest.is_answered, f"the demo to answer on Linux {version}")
    assert guest.entries() == ["from before"]
    with step("the archive's test restore on this kernel"):
        objects.wait(NodeCheckpoint, copy_name(objects), is_ready_again, READY_WITHIN)
    objects.demo(f"on-{release}", guestbook.NAME)
    demo = ready_demo(objects, f"on-{release}")
    assert demo.status.started_by is StartedBy.RESTORE, demo.status.fallback_message


def test_an_archive_of_a_newer_processor_is_not_offered_on_an_older_one(
    cluster: Cluster, machine: Machine, objects: Objects, guest: Guest
) -> None:
    exchange(cluster, machine, kernel=kernels.OWN, cpu=OLD_PROCESSOR)
    wait_long(guest.is_answered, "the demo to answer on the older processor")
    assert guest.entries() == ["from before"]
    with step("the archive's test restore on this processor"):
        found = objects.wait(NodeCheckpoint, copy_name(objects), is_refused, READY_WITHIN)
    (ready,) = [one for one in found.status.conditions if one.type == "Ready"]
    assert "xsave" in (ready.message or "").lower(), ready
    objects.demo("on-old", guestbook.NAME)
    demo = ready_demo(objects, "on-old")
    assert demo.status.started_by is StartedBy.COLD_START


def copy_name(objects: Objects) -> str:
    (found,) = objects.all(NodeCheckpoint)
    return found.metadata.name


def is_ready_again(found: NodeCheckpoint) -> bool:
    return found.status.phase is NodeCheckpointPhase.READY and is_true(
        found.status.conditions, "Ready"
    )


def is_refused(found: NodeCheckpoint) -> bool:
    return found.status.phase is not NodeCheckpointPhase.READY and not is_true(
        found.status.conditions, "Ready"
    )


def test_the_demo_of_before_is_still_there(objects: Objects, guest: Guest) -> None:
    demo = objects.get(DemoInstance, "kept")
    assert demo
    assert guest.entries() == ["from before"]
