"""What a killed Podman leaves behind is found and ended; nobody else's processes are."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tryitnow.agent.sandbox.leftovers import Conmon, Conmons

OWN, FOREIGN = "pid:[4026531836]", "pid:[4026532999]"
NAME = "tryitnow_demo_default_anna_12345678"


class Machine:
    """A /proc with processes that a test makes up."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.has("self", "agent")
        self.conmons = Conmons(proc)

    def has(self, pid: int | str, *command: str, namespace: str = OWN, child: int = 0) -> None:
        home = self.proc / str(pid)
        (home / "ns").mkdir(parents=True)
        (home / "ns/pid").symlink_to(namespace)
        (home / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in command))
        task = home / "task" / str(pid)
        task.mkdir(parents=True)
        (task / "children").write_text(f"{child} " if child else "")

    def has_conmon(self, pid: int, name: str = NAME, **more: str) -> None:
        argv = ("/usr/bin/conmon", "-c", f"id-{pid}", "-u", f"id-{pid}", "-n", name)
        self.has(pid, *argv, **more)  # type: ignore[arg-type]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_only_conmons_of_containers_of_ours_are_found(machine: Machine) -> None:
    machine.has_conmon(10)
    machine.has_conmon(11, "somebody_elses")
    machine.has(12, "sleep", "60")
    assert machine.conmons.find() == [Conmon(10, "id-10", NAME)]


def test_those_of_a_machine_within_this_one_are_not_ours(machine: Machine) -> None:
    """Such as a node of a lab, or of a cluster in containers."""
    machine.has_conmon(10, namespace=FOREIGN)
    assert machine.conmons.find() == []


def test_it_is_ended(machine: Machine, sleeper: subprocess.Popen[bytes]) -> None:
    machine.has_conmon(sleeper.pid)
    [conmon] = machine.conmons.find()
    machine.conmons.end(conmon)
    assert sleeper.wait(10) == -9


def test_a_number_that_another_process_has_by_now_is_left_alone(
    machine: Machine, sleeper: subprocess.Popen[bytes]
) -> None:
    machine.has(sleeper.pid, "sleep", "60")
    machine.conmons.end(Conmon(sleeper.pid, "id", NAME))
    assert sleeper.poll() is None
