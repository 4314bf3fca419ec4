"""Sees to it that this machine has the programs the lab calls; installs only what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import LabError, cache
from lab.progress import step
from lab.shell import run, run_watched

# program -> the Debian package that brings it
_NEEDED = {
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "openssl": "openssl",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
}

# Only for building the operator's image, which is seldom: the cache has the last one.
_BUILDAH = "buildah"

_NONINTERACTIVE = {"DEBIAN_FRONTEND": "noninteractive"}


def ensure() -> None:
    """Install what is missing."""
    if os.geteuid() != 0:
        raise LabError("The lab makes namespaces and mounts: run it as root.")
    if _missing():
        with _apt():
            # Another lab may have installed them while this one waited.
            if missing := _missing():
                _install(missing)


def _missing() -> list[str]:
    return sorted({package for program, package in _NEEDED.items() if not shutil.which(program)})


def ensure_buildah() -> None:
    """Install Buildah where it is missing."""
    if not shutil.which(_BUILDAH):
        install([_BUILDAH])


@contextmanager
def _apt() -> Iterator[None]:
    """Have apt to oneself: apt-get fails at once where another apt-get holds its lists."""
    with cache.lock("apt"):
        yield


def install(packages: list[str]) -> None:
    """Install Debian packages on this machine."""
    with _apt():
        _install(packages)


def _install(packages: list[str]) -> None:
    _require_apt(packages)
    with step(f"installing {', '.join(packages)}", usually="20 s") as current:
        run_watched("apt-get", "update", step=current, env=_NONINTERACTIVE)
        run_watched(
            "apt-get", "install", "--yes", "--no-install-recommends", *packages,
            step=current, env=_NONINTERACTIVE,
        )  # fmt: skip


def unpacked(package: str) -> Path:
    """A Debian package unpacked into the cache, not installed.

    docker-registry comes this way: installed, its maintainer scripts would add a user and start a
    service on port 5000 of the machine.
    """

    def make(target: Path) -> None:
        _require_apt([package])
        with _apt(), step(f"fetching {package}", usually="10 s") as current:
            run_watched("apt-get", "update", step=current, env=_NONINTERACTIVE)
            run_watched("apt-get", "download", package, step=current, cwd=target)
            for archive in target.glob("*.deb"):
                run("dpkg-deb", "--extract", archive, target)
                archive.unlink()

    return cache.entry(f"deb-{package}", cache.key(package, release()), make)


def pip() -> list[str]:
    """This interpreter's pip, or the machine's: either can install for another Python."""
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True)
    if probe.returncode == 0:
        return [sys.executable, "-m", "pip"]
    if shutil.which("pip"):
        return ["pip"]
    raise LabError(
        "The lab needs pip: install it (Debian: python3-pip) or use a Python that has it."
    )


def release() -> str:
    """The code name of this machine's distribution, such as bookworm."""
    for line in Path("/etc/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    raise LabError("/etc/os-release names no VERSION_CODENAME: the lab needs a Debian machine.")


def _require_apt(packages: list[str]) -> None:
    if not shutil.which("apt-get"):
        names = ", ".join(packages)
        raise LabError(f"This machine lacks {names} and has no apt-get: install them by hand.")
