"""What a container is made of, and libpod's SpecGenerator for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tryitnow.api.quantity import parse_quantity
from tryitnow.api.template import Container, ResourceLimits
from tryitnow.podman.state import PortMapping

_CPU_PERIOD_MICROSECONDS = 100_000
"""The kernel's default period for cpu.max (cgroup-v2.rst), as Kubernetes uses it."""

_OOM_SCORE_ADJ = 1000
"""What the kubelet gives Pods of the class BestEffort: nothing is reserved for demos, so they go
first where a node's memory is used up. Else they had that of their Podman, in a critical Pod."""


@dataclass(frozen=True)
class Mount:
    """A directory or file of the node that a container sees."""

    source: Path
    target: str
    read_only: bool


@dataclass(frozen=True)
class NewContainer:
    """What to make a container of.

    Attributes:
        container: Its definition.
        image: What to start it from: a pinned reference.
        env: Its environment, secrets resolved.
        ports: Ports of the node that lead to it; a pod has them instead of its members.
        pod: The pod that it joins.
        mounts: What it sees of the node.
        limits: Its limits, as far as the node's cgroups can hold them.

    """

    container: Container
    image: str
    env: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PortMapping, ...] = ()
    pod: str | None = None
    mounts: tuple[Mount, ...] = ()
    limits: ResourceLimits = field(default_factory=ResourceLimits)


def container_spec(name: str, new: NewContainer) -> dict[str, Any]:
    """Return libpod's SpecGenerator for a container."""
    container = new.container
    spec: dict[str, Any] = {
        "name": name,
        "image": new.image,
        "env": dict(new.env),
        # The image's VOLUMEs stay part of the root file system: so they are frozen with it, and
        # every copy has its own. As named volumes a second import would find them in its way.
        "image_volume_mode": "ignore",
        # The node's proxy settings would be frozen into the archive.
        "httpproxy": False,
        "oom_score_adj": _OOM_SCORE_ADJ,
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
            {
                "type": "bind",
                "source": str(mount.source),
                "destination": mount.target,
                "options": ["rbind", "ro" if mount.read_only else "rw"],
            }
            for mount in new.mounts
        ]
    if resources := _resource_limits(new.limits):
        spec["resource_limits"] = resources
    return spec


def port_mappings(ports: tuple[PortMapping, ...]) -> list[dict[str, Any]]:
    """Return ports as libpod takes them."""
    return [
        {"host_port": p.host_port, "container_port": p.container_port, "protocol": "tcp"}
        for p in ports
    ]


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
