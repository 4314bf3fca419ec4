"""A node on which everything is as it should be, to take things away from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tryitnow.api.nodeagent import Check
from tryitnow.doctor.checks import judge
from tryitnow.doctor.facts import DirectoryFacts, NodeFacts, PodmanFacts
from tryitnow.doctor.host import Outcome

Missing = Callable[[str], Outcome]

GOOD_NODE = NodeFacts(
    system="Linux",
    kernel="6.18.44-fc-v657",
    distribution=("debian",),
    is_our_image=False,
    user=0,
    podman=PodmanFacts(
        version="5.8.6",
        rootless=False,
        runtime_name="crun",
        runtime_path="/usr/bin/crun",
        runtime_version="crun version 1.28\ncommit: 54f16f\n+SYSTEMD +SECCOMP +EBPF +CRIU +JSON_C",
        storage_driver="overlay",
    ),
    podman_problem="",
    podman_socket="unix:///run/podman/podman.sock",
    podman_command=Outcome(0, "podman version 5.8.6"),
    runtime_checkpoint=Outcome(0, "Usage: crun [OPTION...] checkpoint CONTAINER"),
    libcriu=True,
    criu_enabled=True,
    criu=Outcome(0, "Version: 4.2.1"),
    criu_check=Outcome(0, "Looks good."),
    criu_config="",
    iptables=Outcome(0, "iptables-restore v1.8.13 (nf_tables)"),
    directory=DirectoryFacts(
        path=Path("/var/lib/try-it-now/checkpoints"),
        exists=True,
        problem="",
        is_directory=True,
        writable=True,
        mode=0o700,
        owner=0,
        free_bytes=50 << 30,
    ),
    cgroup_v2=True,
    cgroup_v1=(),
    controllers=frozenset({"cpu", "io", "memory", "pids"}),
    nft=Outcome(0, "nftables v1.1.7"),
)


class Node:
    """Made-up nodes: the good one with something changed."""

    def __init__(self, facts: NodeFacts = GOOD_NODE) -> None:
        self.facts = facts

    def but(self, **changes: Any) -> Node:
        return Node(replace(self.facts, **changes))

    def with_podman(self, **changes: Any) -> Node:
        assert self.facts.podman
        return self.but(podman=replace(self.facts.podman, **changes))

    def without_podman(
        self, problem: str = "there is no socket at /run/podman/podman.sock"
    ) -> Node:
        return self.but(podman=None, podman_problem=problem)

    def with_directory(self, **changes: Any) -> Node:
        return self.but(directory=replace(self.facts.directory, **changes))

    @property
    def checks(self) -> tuple[Check, ...]:
        return judge(self.facts)

    def check(self, name: str) -> Check:
        (found,) = [check for check in self.checks if check.name == name]
        return found

    def has_check(self, name: str) -> bool:
        return any(check.name == name for check in self.checks)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def missing() -> Missing:
    """What comes of running a program that is not there."""
    return lambda name: Outcome(None, f"{name} is not installed", missing=True)
