"""The lab's own commands, where its node is a machine."""

from __future__ import annotations

import subprocess
import sys

from lab.cluster import CHECKOUT, Cluster
from lab.machines.machine import Machine
from tests.pages import blocks


def lab(cluster: Cluster, command: str, *words: str) -> str:
    argv = [sys.executable, "-m", "lab", command, "--name", cluster.lab.name, *words]
    return subprocess.run(argv, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout


def test_the_page_for_developers_is_right(cluster: Cluster) -> None:
    (script,) = blocks("development.md", "sh machine")
    script = script.replace("--name real", f"--name {cluster.lab.name}")
    script = script.replace("python3 ", f"{sys.executable} ")
    done = subprocess.run(
        ["sh", "-euc", script], cwd=CHECKOUT, check=True, capture_output=True, text=True
    )
    assert f"lab {cluster.lab.name} is up already" in done.stdout
    assert "kubelet" in done.stdout


def test_status_and_exec_know_machines(cluster: Cluster, machine: Machine) -> None:
    assert cluster.node_address(machine.name) in lab(cluster, "status")
    assert lab(cluster, "exec", machine.name, "--", "uname", "-n").strip() == machine.name


def test_a_machine_that_is_paused_goes_on_where_it_was(machine: Machine) -> None:
    before = machine.boot_id()
    machine.pause()
    machine.resume()
    assert machine.boot_id() == before
