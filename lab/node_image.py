"""What a node is made of: its root file system and the Python packages of our operator.

Debian forky, because this is the first release whose CRIU can freeze a process with sockets on a
6.18 kernel: bookworm's 3.17 and trixie's 4.1.1 cannot.
"""

from __future__ import annotations

import platform
import re
import tomllib
from pathlib import Path

from lab import LabError, cache, debian, host_packages
from lab.progress import step
from lab.shell import run_watched

SUITE = "forky"

PACKAGES = (
    "aardvark-dns",
    "ca-certificates",
    "catatonit",
    "conmon",
    "criu",
    "crun",
    "iproute2",
    "iptables",  # CRIU calls it to lock the network while it dumps
    "libcriu2",  # crun loads it at run time and Debian only suggests it
    "netavark",
    "nftables",
    "podman",
    "python3",
)


def root_file_system() -> Path:
    """The read-only tree below every node."""
    return debian.tree(SUITE, PACKAGES)


def python_version(tree: Path) -> str:
    """The Python of a node, such as 3.14."""
    found = re.fullmatch(r"python(3\.\d+)", str((tree / "usr/bin/python3").readlink()))
    if not found:
        raise LabError(f"{tree}/usr/bin/python3 does not point to a Python 3 by its version.")
    return found[1]


def site_packages(pyproject: Path, version: str) -> Path | None:
    """The dependencies of our operator for that Python, or None where none are declared."""
    if not pyproject.exists():
        return None
    declared = tomllib.loads(pyproject.read_text()).get("project", {}).get("dependencies", [])
    if not declared:
        return None
    wanted = sorted(str(requirement) for requirement in declared)

    def make(target: Path) -> None:
        with step(f"installing {len(wanted)} Python packages", usually="20 s") as current:
            run_watched(
                *host_packages.pip(), "install", "--target", target, "--python-version", version,
                "--only-binary=:all:", "--no-compile", "--no-warn-script-location",
                *wanted, step=current,
            )  # fmt: skip

    return cache.entry("site-packages", cache.key("1", version, platform.machine(), *wanted), make)
