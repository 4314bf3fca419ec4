"""The main job on a real node: an application of three users, limits, a reboot, a power loss.

The tests are one story: they share two demos, and each finds what the one before has written.
"""

from __future__ import annotations

import pytest

from lab.cluster import Cluster
from lab.machines import fleet
from lab.machines.machine import Machine
from lab.progress import step
from tests.machines import guestbook
from tests.machines.guestbook import Guest
from tests.machines.waiting import ready_demo, wait_long
from tests.system.objects import Objects, condition
from tryitnow.api.checkpoint import Checkpoint
from tryitnow.api.demoinstance import DemoInstance, StartedBy

NAMES = ("ann", "bob")

ROOT = 0


@pytest.fixture(scope="module")
def guests(demos: Objects) -> dict[str, Guest]:
    """Two people, each with a demo."""
    for name in NAMES:
        demos.demo(name, guestbook.NAME)
    return {name: Guest(ready_demo(demos, name)) for name in NAMES}


def expect(guests: dict[str, Guest], entries: dict[str, list[str]]) -> None:
    assert {name: guest.entries() for name, guest in guests.items()} == entries


def test_the_node_is_a_real_one(cluster: Cluster, machine: Machine) -> None:
    node = cluster.api.get(f"/api/v1/nodes/{machine.name}")
    assert node
    about = node["status"]["nodeInfo"]
    assert about["containerRuntimeVersion"].startswith("containerd://")
    assert about["kernelVersion"] == machine.run("uname", "-r").stdout.strip()


def test_a_checkpoint_is_proven_on_the_machine(checkpointed: Checkpoint) -> None:
    assert condition(checkpointed, "Verified").status == "True"
    assert checkpointed.status.nodes == "1/1"


def test_demos_are_restored_and_their_data_is_apart(
    demos: Objects, guests: dict[str, Guest]
) -> None:
    for name, guest in guests.items():
        demo = demos.get(DemoInstance, name)
        assert demo
        assert demo.status.started_by is StartedBy.RESTORE, demo.status.fallback_message
        guest.write(f"I am {name}")
    expect(guests, {"ann": ["I am ann"], "bob": ["I am bob"]})


def test_each_program_of_a_demo_is_its_own_users(guests: dict[str, Guest]) -> None:
    users = guests["ann"].users()
    assert len(users - {ROOT}) == 3, users


def test_limits_are_those_of_the_checkpoint_and_reach_all_processes(
    machine: Machine, guests: dict[str, Guest]
) -> None:
    programs = ("redis-server", "nginx", "guestbook")
    found = machine.shell(
        "for program in " + " ".join(programs) + "; do\n"
        "  for pid in $(pgrep --exact $program); do\n"
        "    group=/sys/fs/cgroup$(cut -d: -f3 /proc/$pid/cgroup)\n"
        "    echo $(cat $group/memory.max $group/pids.max $group/cpu.max)\n"
        "  done\n"
        "done | sort --unique\n"
    )
    assert len(guests) == len(NAMES)
    assert found.split() == [
        str(guestbook.MEMORY),
        str(guestbook.PIDS),
        str(round(guestbook.CPU * 100_000)),
        "100000",
    ]


def test_processes_and_processor_time_end_at_their_limits(guests: dict[str, Guest]) -> None:
    started = guests["ann"].ask_for_processes(2 * guestbook.PIDS)
    assert 0 < started < guestbook.PIDS
    wall = 4.0
    assert guests["ann"].ask_for_processor(wall) < wall * guestbook.CPU * 1.2
    assert guests["ann"].is_answered()


def test_a_demo_that_needs_too_much_memory_is_started_again_with_its_data(
    demos: Objects, guests: dict[str, Guest]
) -> None:
    assert not guests["ann"].ask_for_memory(2 * guestbook.MEMORY >> 20)
    wait_long(guests["ann"].is_answered, "ann's demo to answer again")
    expect(guests, {"ann": ["I am ann"], "bob": ["I am bob"]})
    demo = demos.wait(DemoInstance, "ann", lambda found: found.status.restarts == 1)
    assert demo.status.started_by is StartedBy.RESTART
    untouched = demos.get(DemoInstance, "bob")
    assert untouched
    assert untouched.status.restarts == 0


def test_a_reboot_keeps_the_data(
    cluster: Cluster, machine: Machine, guests: dict[str, Guest]
) -> None:
    for name, guest in guests.items():
        guest.write(f"{name}, before the reboot")
    with step("reboot", usually="2 min"):
        machine.reboot()
        fleet.wait_ready(machine, cluster.api)
    for name, guest in guests.items():
        wait_long(guest.is_answered, f"{name}'s demo to answer after the reboot")
    written = {name: [f"I am {name}", f"{name}, before the reboot"] for name in NAMES}
    expect(guests, written)


def test_a_power_loss_keeps_the_data(
    cluster: Cluster, demos: Objects, machine: Machine, guests: dict[str, Guest]
) -> None:
    before = {name: guest.entries() for name, guest in guests.items()}
    for name, guest in guests.items():
        guest.write(f"{name}, before the power loss")
    machine.power_loss()
    with step("power on", usually="1 min"):
        machine.power_on()
        fleet.wait_ready(machine, cluster.api)
    for name, guest in guests.items():
        wait_long(guest.is_answered, f"{name}'s demo to answer after the power loss")
    expect(guests, {name: [*before[name], f"{name}, before the power loss"] for name in NAMES})
    for name in NAMES:
        ready_demo(demos, name)
