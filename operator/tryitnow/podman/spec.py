"""The properties of a new container, and libpod's SpecGenerator for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tryitnow.api.quantity import parse_quantity
from tryitnow.api.template import Container, ResourceLimits
from tryitnow.podman.oom import OOM_SCORE_ADJ
from tryitnow.podman.state import PortMapping

_CPU_PERIOD_MICROSECONDS = 100_000
"""The kernel's default period for cpu.max (cgroup-v2.rst), as Kubernetes uses it."""


@dataclass(frozen=True)
class Mount:
    """A directory or file of the node that a container sees."""

    source: Path
    target: str
    read_only: bool


@dataclass(frozen=True)
class MemoryMount:
    """An empty directory in memory, as an emptyDir with ``medium: Memory``.

    Attributes:
        target: Where the container sees it.
        size_bytes: How much fits; half of the node's memory when it is not said.

    """

    target: str
    size_bytes: int | None = None


@dataclass(frozen=True)
class NewContainer:
    """The properties of a new container.

    Attributes:
        container: Its definition.
        image: What to start it from: a pinned reference.
        env: Its environment, secrets resolved.
        ports: Ports of the node that lead to it; a pod has them instead of its members.
        pod: The pod that it joins.
        mounts: What it sees of the node, and directories in memory.
        limits: Its limits, as far as the node's cgroups can hold them.
        cap_add: Capabilities beyond Podman's own, for the processes of every user.
        cap_drop: Capabilities that it does not have.
        no_new_privileges: Whether its processes can gain none that their parents lack (no_new_privs
            of the kernel): programs with set-user-ID such as sudo do not work.
        selinux: Whether SELinux is on: what it sees of the node is labelled so that it may.
        shm_bytes: Size of its /dev/shm; in a pod it is that of the pod.

    """

    container: Container
    image: str
    env: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PortMapping, ...] = ()
    pod: str | None = None
    mounts: tuple[Mount | MemoryMount, ...] = ()
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    selinux: bool = False
    shm_bytes: int | None = None


def container_spec(name: str, new: NewContainer) -> dict[str, Any]:
    """Return libpod's SpecGenerator for a container."""
    container = new.container
    spec: dict[str, Any] = {
        "name": name,
        "image": new.image,
        "env": dict(new.env),
        # The image's VOLUMEs stay part of the root file system: a checkpoint contains them, and
        # every container has its own.
        "image_volume_mode": "ignore",
        # A checkpoint would contain the node's proxy settings.
        "httpproxy": False,
        "oom_score_adj": OOM_SCORE_ADJ,
        # CRI-O restores no archive without this one (server/container_restore.go).
        "annotations": {"io.kubernetes.cri-o.Annotations": "{}"},
    }
    if new.pod is None:
        spec |= {"portmappings": port_mappings(new.ports), "netns": {"nsmode": "bridge"}}
    else:
        spec["pod"] = new.pod
    if container.command:
        spec["entrypoint"] = list(container.command)
    if container.args:
        spec["command"] = list(container.args)
    if new.mounts:
        spec["mounts"] = [
            _memory(mount) if isinstance(mount, MemoryMount) else _bind(mount, selinux=new.selinux)
            for mount in new.mounts
        ]
    if new.cap_add:
        spec["cap_add"] = list(new.cap_add)
    if new.cap_drop:
        spec["cap_drop"] = list(new.cap_drop)
    if new.no_new_privileges:
        spec["no_new_privileges"] = True
    if new.shm_bytes is not None and new.pod is None:
        spec["shm_size"] = new.shm_bytes
    if resources := _resource_limits(new.limits):
        spec["resource_limits"] = resources
    return spec


def port_mappings(ports: tuple[PortMapping, ...]) -> list[dict[str, Any]]:
    """Return ports as libpod takes them."""
    return [
        {"host_port": p.host_port, "container_port": p.container_port, "protocol": "tcp"}
        for p in ports
    ]


def _bind(mount: Mount, *, selinux: bool) -> dict[str, Any]:
    options = ["rbind", "ro" if mount.read_only else "rw"]
    if selinux:
        # Shared: a sandbox's volumes are seen by several of its containers, and a restored process
        # has the label of the container that was checkpointed.
        options.append("z")
    return {
        "type": "bind",
        "source": str(mount.source),
        "destination": mount.target,
        "options": options,
    }


def _memory(mount: MemoryMount) -> dict[str, Any]:
    # As the kubelet makes it: anybody may write, and what the image has there is not seen.
    options = ["rw", "mode=1777", "notmpcopyup"]
    if mount.size_bytes is not None:
        options.append(f"size={mount.size_bytes}")
    return {
        "type": "tmpfs",
        "source": "tmpfs",
        "destination": mount.target,
        "options": options,
    }


def _resource_limits(limits: ResourceLimits) -> dict[str, Any]:
    """Return limits as the OCI runtime specification writes them."""
    found: dict[str, Any] = {}
    if limits.cpu is not None:
        quota = int(parse_quantity(limits.cpu) * _CPU_PERIOD_MICROSECONDS)
        found["cpu"] = {"quota": max(quota, 1000), "period": _CPU_PERIOD_MICROSECONDS}
    if limits.memory is not None:
        found["memory"] = {"limit": int(parse_quantity(limits.memory))}
    if limits.pids is not None:
        found["pids"] = {"limit": limits.pids}
    return found
