"""Demos hold up the shutdown of their machine only for a moment."""

from __future__ import annotations

import pytest

from lab.cluster import Cluster
from lab.machines import fleet
from lab.machines.machine import Machine
from lab.progress import log_line, step
from tests.machines import guestbook
from tests.machines.guestbook import Guest
from tests.machines.waiting import ready_demo, wait_long
from tests.system.objects import Objects

DEMOS = 20
LONGER_BY = 15.0
"""Seconds. A cloud cuts the power of a machine that has not shut down within 30."""


@pytest.fixture(scope="module")
def without_demos(cluster: Cluster, machine: Machine) -> float:
    """Seconds that a shutdown of the machine takes, with the operator and no demo."""
    took = shut_down(machine)
    power_on(cluster, machine)
    return took


def test_a_machine_with_twenty_demos_shuts_down_as_fast_as_without(
    cluster: Cluster, machine: Machine, without_demos: float, demos: Objects
) -> None:
    for number in range(DEMOS):
        demos.demo(f"demo-{number}", guestbook.NAME)
    guests = [Guest(ready_demo(demos, f"demo-{number}")) for number in range(DEMOS)]
    for number, guest in enumerate(guests):
        guest.write(f"of demo-{number}")
    took = shut_down(machine)
    power_on(cluster, machine)
    for number, guest in enumerate(guests):
        wait_long(guest.is_answered, f"demo-{number} to answer after the shutdown")
        assert guest.entries() == [f"of demo-{number}"]
    assert took < without_demos + LONGER_BY


def shut_down(machine: Machine) -> float:
    with step("shutdown"):
        took = machine.power_off()
    log_line(f"the shutdown took {took:.1f} s")
    return took


def power_on(cluster: Cluster, machine: Machine) -> None:
    with step("power on", usually="1 min"):
        machine.power_on()
        fleet.wait_ready(machine, cluster.api)
