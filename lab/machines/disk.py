"""The disks of machines: one base that all share, an overlay and a configuration for each."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab import binaries, cache, debian, operator_image
from lab.machines import guest, kernels
from lab.progress import step
from lab.shell import run, run_watched

_NODE = Path(__file__).parent / "node"

# Part of every key: raise it when the way a disk is made changes.
_RECIPE = "1"

_SIZE = "16G"  # sparse: 2 GB of it are written

# One inode for 32 kB: two unpacked images of the operator have 60,000 files.
_BYTES_PER_INODE = "32768"

_CONFIGURATION_SIZE = "8M"

_PACKAGES = (
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "dbus",
    "dmsetup",
    "e2fsprogs",
    "ethtool",
    "iproute2",
    "iptables",
    "kmod",
    "mount",
    "nftables",
    "procps",
    "psmisc",
    "qemu-guest-agent",
    "runc",
    "socat",
    "systemd",
    "systemd-sysv",
    "udev",
    "util-linux",
    "xfsprogs",
)
"""What a person installs on a node before the kubelet; Podman and CRIU come in the agent's Pod."""

PAUSE = "registry.lab:5000/pause:lab"
"""The image that holds a Pod's namespaces; containerd's configuration names it."""

_OPERATOR = "registry.lab:5000/try-it-now:base"
"""Some version of the operator: a machine then pulls only the layer with the newest code."""


def base() -> Path:
    """The disk that machines start from: Debian, three kernels, containerd with images, kubelet."""
    tree = debian.tree(kernels.OWN, _PACKAGES)
    programs = binaries.node_programs()
    booted = [kernels.get(release) for release in kernels.RELEASES]
    pause = guest.program("pause")

    def make(target: Path) -> None:
        images = target / "images"
        images.mkdir()
        _save_pause(pause, images / "pause.tar")
        reference = operator_image.build()
        archive = f"oci-archive:{images / 'operator.tar'}:{_OPERATOR}"
        with step("making the disk of machines", usually="60 s") as current:
            run(*operator_image.buildah("push", reference, archive))
            root = target / "root"
            run("cp", "--archive", f"{tree}/.", root)
            run("cp", "--recursive", "--no-target-directory", _NODE / "rootfs", root)
            for program in programs.iterdir():
                shutil.copy2(program, root / "usr/local/bin")
            for kernel in booted:
                modules = root / "usr/lib/modules" / kernel.version
                shutil.copytree(kernel.modules, modules, symlinks=True)
            run("chroot", root, "sh", "-s", stdin=(_NODE / "setup.sh").read_text())
            environment = {"PRELOAD_TREE": str(root), "PRELOAD_IMAGES": str(images)}
            run_watched(
                "unshare", "--mount", "--pid", "--fork", "--kill-child",
                "sh", str(_NODE / "preload.sh"), step=current, env=environment,
            )  # fmt: skip
            run(
                "mke2fs", "-q", "-t", "ext4", "-L", "root", "-i", _BYTES_PER_INODE, "-d", root,
                target / "base.img", _SIZE,
            )  # fmt: skip
        for used in (images, root):
            shutil.rmtree(used)

    parts = [tree.name, programs.name, pause.parent.name, *(one.directory.name for one in booted)]
    key = cache.key(_RECIPE, *parts, cache.tree_key(_NODE), operator_image.key())
    return cache.entry("machine", key, make) / "base.img"


def overlay(target: Path, base_image: Path) -> None:
    """Make the disk of one machine, which holds what differs from the base."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base_image, target)


def empty(target: Path, size: str) -> None:
    """Make a disk with nothing on it, such as `2G`."""
    run("qemu-img", "create", "-q", "-f", "qcow2", target, size)


def configuration(target: Path, tree: Path) -> None:
    """Make the small disk from which a machine takes its configuration."""
    target.unlink(missing_ok=True)
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, target, _CONFIGURATION_SIZE)


def _save_pause(program: Path, archive: Path) -> None:
    with operator_image.building():
        container = run(*operator_image.buildah("from", "scratch")).strip()
        try:
            run(*operator_image.buildah("copy", "--quiet", container, str(program), "/pause"))
            run(*operator_image.buildah("config", "--entrypoint", '["/pause"]', container))
            target = f"oci-archive:{archive}:{PAUSE}"
            run(*operator_image.buildah("commit", "--quiet", container, target))
        finally:
            run(*operator_image.buildah("rm", container))
