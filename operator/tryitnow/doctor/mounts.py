"""Podman's mounts, as far as restores depend on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tryitnow.doctor.host import Host

_LINE = re.compile(
    r"^\d+ \d+ \d+:\d+ \S+ (?P<point>\S+) \S+ (?:\S+ )*?- (?P<type>\S+) \S+ (?P<options>\S+)$",
    re.MULTILINE,
)
"""proc_pid_mountinfo(5): IDs, device, root, mount point, options, optional fields, a hyphen, type,
source, options of the file system."""

_ENFORCE = "/sys/fs/selinux/enforce"


@dataclass(frozen=True)
class Mount:
    """The file system that a path is on."""

    type: str
    """Such as ext4, tmpfs, overlay."""

    has_labels: bool
    """Files on it can be labelled for SELinux."""


@dataclass(frozen=True)
class MountFacts:
    """Mounts of Podman's that restores depend on, and SELinux that guards them."""

    run: Mount | None
    """Of /run; None when it cannot be found out."""

    data: Mount | None
    """Of the directory of archives and volumes; None when it cannot be found out."""

    selinux_enforcing: bool | None
    """Whether SELinux refuses; None where it is off."""


def examine_mounts(host: Host, data: Path) -> MountFacts:
    """Look at the mounts. Never raises."""
    mountinfo = host.read_of_podman("mountinfo")
    # A Pod has no selinuxfs, though the node has one.
    enforce = (host.read(_ENFORCE) or host.read_on_node(_ENFORCE)).strip()
    return MountFacts(
        run=mount_of(mountinfo, Path("/run")),
        data=mount_of(mountinfo, data),
        selinux_enforcing=enforce == "1" if enforce else None,
    )


def mount_of(mountinfo: str, path: Path) -> Mount | None:
    """Return what a path is on: the deepest mount point above it, the last of several there."""
    found, depth = None, -1
    for line in _LINE.finditer(mountinfo):
        # Spaces, tabs, line feeds and backslashes are written in octal.
        text = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line["point"])
        point = Path(text)
        if (point == path or point in path.parents) and len(point.parts) >= depth:
            found, depth = line, len(point.parts)
    if found is None:
        return None
    return Mount(found["type"], "seclabel" in found["options"].split(","))
