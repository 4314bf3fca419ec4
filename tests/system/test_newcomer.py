"""The README and docs/development.md, followed by somebody who has just cloned the repository."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests

from lab.cluster import CHECKOUT, Cluster
from tests.pages import blocks, walkthrough
from tests.system.leftovers import leftovers


@dataclass
class Shell:
    """Runs lines of a shell in the checkout, with the machine's own Python."""

    lab: str
    """Name of the lab that is used in the place of the pages' names."""
    environment: dict[str, str]

    def run(self, script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=CHECKOUT,
            env=self.environment,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def shell(cluster: Cluster) -> Iterator[Shell]:
    name = f"{cluster.lab.name}new"
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    # `make demo LAB=…` without the words: make takes it from the environment as well.
    environment = {**ours, "LAB": name, "PATH": without_virtual_environment()}
    environment.pop("MAKEFLAGS", None)
    yield Shell(name, environment)
    Cluster(name).down()


def without_virtual_environment() -> str:
    own = os.environ.get("VIRTUAL_ENV", "/nowhere")
    return ":".join(part for part in os.environ["PATH"].split(":") if not part.startswith(own))


def test_two_commands_do_everything(shell: Shell) -> None:
    demo, test = (block.strip() for block in blocks("../README.md"))
    assert f"{test}\n" in (CHECKOUT / ".ci/run").read_text(), "this runs because CI does"
    told = shell.run(demo)
    assert "startedBy: Restore" in told
    found = re.search(r"^URL: (http://\S+)$", told, re.MULTILINE)
    assert found
    with requests.Session() as client:
        client.trust_env = False
        assert "<title>Lab Shop" in client.get(found[1], timeout=30).text


def test_a_lab_of_ones_own(shell: Shell) -> None:
    """After the demo, so that it is there already."""
    told = shell.run(walkthrough("development.md").replace("mine", shell.lab))
    assert "Prometheus: http://" in told
    assert not any(leftovers(shell.lab).values()), leftovers(shell.lab)
