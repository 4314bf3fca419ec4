"""The kernels that a machine can boot: Debian's for cloud machines, of three releases."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab import LabError, cache, debian
from lab.machines import guest, initrd
from lab.progress import step
from lab.shell import run

OWN = "forky"
"""The release that the machine's other packages are of."""

RELEASES = (OWN, "trixie", "bookworm")

# Part of every key: raise it when the way a kernel is unpacked changes.
_RECIPE = "1"

_META_PACKAGE = "linux-image-cloud-amd64"
_PARTS = re.compile(r"linux-(image|base|binary|modules)-\d\S*-cloud-amd64")
"""Newer releases split the kernel's package into these."""

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Kernel:
    """One kernel, as QEMU boots it."""

    release: str
    directory: Path

    @property
    def version(self) -> str:
        """What `uname -r` says."""
        (found,) = (self.directory / "modules").iterdir()
        return found.name

    @property
    def image(self) -> Path:
        """The compressed kernel."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its initrd, with our own first process."""
        return self.directory / "initrd"

    @property
    def modules(self) -> Path:
        """The directory that is /usr/lib/modules/VERSION on the machine's disk."""
        return self.directory / "modules" / self.version


def get(release: str) -> Kernel:
    """The kernel of a Debian release, from the cache or newly fetched."""
    if release not in RELEASES:
        raise LabError(f"The lab knows no kernel {release!r}, only: {', '.join(RELEASES)}")
    first = guest.program("init")

    def make(target: Path) -> None:
        with step(f"fetching the kernel of Debian {release}", usually="20 s"):
            unpacked = target / "unpacked"
            for package in _download(release, target / "packages"):
                run("dpkg-deb", "--extract", package, unpacked)
            (modules,) = unpacked.glob("**/lib/modules/*")
            (image,) = unpacked.rglob("vmlinuz*")
            image.rename(target / "vmlinuz")
            (target / "modules").mkdir()
            modules.rename(target / "modules" / modules.name)
            initrd.write(target / "initrd", first, target / "modules" / modules.name)
            for used in (unpacked, target / "packages"):
                shutil.rmtree(used)

    key = cache.key(_RECIPE, release, first.parent.name, Path(initrd.__file__).read_text())
    return Kernel(release, cache.entry(f"kernel-{release}", key, make))


def _download(release: str, target: Path) -> list[Path]:
    """Fetch the packages of the newest kernel with this machine's apt, from its own mirror."""
    for part in ("lists/partial", "archives"):
        (target / part).mkdir(parents=True)
    sources = target / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {debian.mirror()} {release} main\n")
    options = [
        f"-oDir::Etc::sourcelist={sources}",
        "-oDir::Etc::sourceparts=/dev/null",
        "-oDir::Etc::preferencesparts=/dev/null",
        f"-oDir::State::lists={target / 'lists'}",
        f"-oDir::Cache={target}",
        "-oDir::State::status=/dev/null",  # what this machine has installed is of no matter
        "-oAcquire::Languages=none",
        "-oAPT::Sandbox::User=root",
    ]
    run("apt-get", *options, "update")
    depended = run("apt-cache", *options, "depends", "--recurse", "--no-recommends",
                   "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces",
                   "--no-enhances", _META_PACKAGE)  # fmt: skip
    names = sorted({found[0] for found in _PARTS.finditer(depended)})
    if not names:
        raise LabError(f"{_META_PACKAGE} of Debian {release} depends on no kernel: {depended}")
    run("apt-get", *options, "download", *names, cwd=target / "archives")
    return sorted((target / "archives").glob("*.deb"))
