"""A node on which everything is as it should be, to take things away from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from tryitnow.api.nodeagent import Check
from tryitnow.doctor.checks import judge
from tryitnow.doctor.disk import DirectoryFacts, DiskFacts
from tryitnow.doctor.facts import NodeFacts, Wanted
from tryitnow.doctor.host import CommandResult, Process
from tryitnow.doctor.kernel import KernelFacts, Usage
from tryitnow.doctor.mounts import Mount, MountFacts
from tryitnow.doctor.network import NetworkFacts, Route
from tryitnow.doctor.podman import PodmanFacts
from tryitnow.doctor.spills import SpillFacts

Missing = Callable[[str], CommandResult]

GIB = 1 << 30

DEMO = "e411a8f4e8c70f921658e57bc103d196f149eba346dcdb67fa9f51d7487a5a52"
"""ID of a container that Podman has."""

GOOD_NODE = NodeFacts(
    wanted=Wanted(
        demos=110,
        ports=range(20000, 21000),
        disk_reserve_bytes=2 * GIB,
        memory_reserve_bytes=GIB // 2,
    ),
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
        storage_path="/var/lib/containers/storage",
        free_locks=2036,
        containers=9,
        container_ids=frozenset({DEMO, *(f"{n:064x}" for n in range(8))}),
        selinux=False,
        networks=(IPv4Network("10.88.0.0/16"),),
        bridge="podman0",
    ),
    podman_problem="",
    podman_timed_out=False,
    podman_socket="unix:///run/podman/podman.sock",
    podman_command=CommandResult(0, "podman version 5.8.6"),
    runtime_checkpoint=CommandResult(0, "Usage: crun [OPTION...] checkpoint CONTAINER"),
    libcriu=True,
    criu_enabled=True,
    criu=CommandResult(0, "Version: 4.2.1"),
    criu_check=CommandResult(0, "Looks good."),
    criu_config="",
    iptables=CommandResult(0, "iptables-restore v1.8.13 (nf_tables)"),
    directory=DirectoryFacts(
        path=Path("/var/lib/try-it-now/checkpoints"),
        exists=True,
        problem="",
        is_directory=True,
        writable=True,
        mode=0o700,
        owner=0,
        archives=3,
    ),
    disk=DiskFacts(
        path=Path("/var/lib/try-it-now/checkpoints"),
        device=1,
        free_bytes=50 * GIB,
        free_inodes=3_000_000,
    ),
    storage=DiskFacts(
        path=Path("/var/lib/containers/storage"),
        device=2,
        free_bytes=90 * GIB,
        free_inodes=6_000_000,
    ),
    limits=KernelFacts(
        memory=Usage(64 * GIB, 9 * GIB),
        tasks=Usage(4_194_304, 800),
        groups=(),
        files=Usage(9_223_372_036_854_775_807, 3000),
        open_files=1_048_576,
        most_open_files=1_073_741_816,
        inotify_instances=1024,
        inotify_watches=524_288,
        inotify_exhausted=False,
        aio=Usage(1_048_576, 5322),
        conntrack=Usage(262_144, 77),
        local_ports=range(32768, 61000),
        reserved_ports=(),
    ),
    network=NetworkFacts(
        listeners=(),
        conmons=(Process(469, "conmon", DEMO),),
        routes=(
            Route(IPv4Network("192.0.2.0/24"), "eth0"),
            Route(IPv4Network("10.244.1.0/24"), "cni0"),
            Route(IPv4Network("10.88.0.0/16"), "podman0"),
        ),
        cni=(IPv4Network("10.244.1.0/24"),),
    ),
    mounts=MountFacts(
        run=Mount("tmpfs", has_labels=False),
        data=Mount("ext4", has_labels=False),
        selinux_enforcing=None,
    ),
    spills=SpillFacts(swaps=(), core_pattern="core", dumps_cores=False),
    cpu_features=("avx", "avx2", "xsave"),
    cgroup_v2=True,
    cgroup_v1=(),
    controllers=frozenset({"cpu", "io", "memory", "pids"}),
    nft=CommandResult(0, "nftables v1.1.7"),
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

    def with_disk(self, **changes: Any) -> Node:
        assert self.facts.disk
        return self.but(disk=replace(self.facts.disk, **changes))

    def with_storage(self, **changes: Any) -> Node:
        assert self.facts.storage
        return self.but(storage=replace(self.facts.storage, **changes))

    def with_limits(self, **changes: Any) -> Node:
        return self.but(limits=replace(self.facts.limits, **changes))

    def with_network(self, **changes: Any) -> Node:
        return self.but(network=replace(self.facts.network, **changes))

    def with_mounts(self, **changes: Any) -> Node:
        return self.but(mounts=replace(self.facts.mounts, **changes))

    def with_spills(self, **changes: Any) -> Node:
        return self.but(spills=replace(self.facts.spills, **changes))

    def wanting(self, **changes: Any) -> Node:
        return self.but(wanted=replace(self.facts.wanted, **changes))

    def with_busy_podman(self) -> Node:
        return self.but(
            podman=None, podman_problem="Podman did not answer within 10 s", podman_timed_out=True
        )

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


def late(program: str) -> CommandResult:
    """What comes of running a program that takes too long."""
    return CommandResult(None, f"{program} did not end within 5 s", timed_out=True)


@pytest.fixture
def missing() -> Missing:
    """What comes of running a program that is not there."""
    return lambda name: CommandResult(None, f"{name} is not installed", missing=True)
