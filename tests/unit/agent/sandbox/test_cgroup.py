"""Whose processes are moved to a container's cgroup: those of its PID namespace, and no others.

The processes are made up: a directory that looks like ``/proc``. Moving real ones is for the
system tests.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tryitnow.agent.errors import CgroupError
from tryitnow.agent.sandbox.cgroup import gather

ID = "c0ffee" * 10
HOME = f"/libpod_parent/libpod-{ID}"
FIRST = 5000
"""The container's first process."""


class Machine:
    """A made-up ``/proc`` and ``/sys/fs/cgroup``."""

    def __init__(self, directory: Path) -> None:
        self.proc = directory / "proc"
        self._cgroups = directory / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self/mounts").write_text(
            f"proc /proc proc rw 0 0\ncgroup2 {self._cgroups} cgroup2 rw 0 0\n"
        )
        self.add(os.getpid(), "host", "/system.slice/agent")
        self.procs = self._cgroups / HOME.lstrip("/") / "cgroup.procs"
        self.procs.parent.mkdir(parents=True)
        self.procs.touch()

    def add(self, pid: int, namespace: str, cgroup: str, hierarchy: str = "0::") -> None:
        (self.proc / str(pid) / "ns").mkdir(parents=True)
        (self.proc / str(pid) / "ns/pid").symlink_to(f"pid:[{namespace}]")
        (self.proc / str(pid) / "cgroup").write_text(f"12:cpu:/\n{hierarchy}{cgroup}\n")

    def gather(self) -> int:
        return gather(ID, FIRST, self.proc)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.add(FIRST, "container", HOME)
    return machine


def test_where_all_are_in_place_nothing_is_moved(machine: Machine) -> None:
    machine.add(5001, "container", HOME)
    machine.add(5002, "container", f"{HOME}/init.scope")
    machine.add(6000, "host", "/system.slice/podman")
    machine.add(6001, "another container", "/libpod_parent/libpod-another")
    assert machine.gather() == 0
    assert machine.procs.read_text() == ""


def test_a_stray_is_moved(machine: Machine) -> None:
    machine.add(5001, "container", "/system.slice/podman")
    # This cgroup is a plain file and moves nobody: it stays a stray until that is given up.
    with pytest.raises(CgroupError, match="1 processes keep appearing"):
        machine.gather()
    assert machine.procs.read_text() == "5001"


def test_a_cgroup_whose_name_only_begins_alike_is_another(machine: Machine) -> None:
    machine.add(5001, "container", f"{HOME}-of-another")
    with pytest.raises(CgroupError):
        machine.gather()
    assert machine.procs.read_text() == "5001"


def test_where_the_first_process_sits_deeper_all_of_the_container_is_home(machine: Machine) -> None:
    (machine.proc / str(FIRST) / "cgroup").write_text(f"0::{HOME}/container\n")
    machine.add(5001, "container", f"{HOME}/other")
    assert machine.gather() == 0


def test_a_container_that_ended_needs_nothing(tmp_path: Path) -> None:
    assert Machine(tmp_path).gather() == 0


def test_a_number_that_a_process_of_the_node_has_by_now_moves_nobody(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.add(FIRST, "host", "/system.slice/cron")
    machine.add(6000, "host", "/system.slice/podman")
    assert machine.gather() == 0
    assert machine.procs.read_text() == ""


def test_a_node_with_cgroup_v1_alone_is_left_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.add(FIRST, "container", HOME, hierarchy="1:name=systemd:")
    machine.add(5001, "container", "/system.slice/podman", hierarchy="1:name=systemd:")
    assert machine.gather() == 0


def test_a_cgroup_that_cannot_be_written_says_which(machine: Machine) -> None:
    machine.add(5001, "container", "/system.slice/podman")
    machine.procs.unlink()
    machine.procs.parent.rmdir()
    with pytest.raises(CgroupError, match=f"5001 cannot be moved to .*libpod-{ID}"):
        machine.gather()
