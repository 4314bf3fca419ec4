"""QEMU's command line for a machine, and whether KVM may run it.

/dev/kvm alone says nothing: a machine in the cloud may have one that fails at the first ordinary
kernel. So one is booted, to the point where its first process says so.
"""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import LabError, cache, host_packages, network
from lab.machines import kernels
from lab.progress import step

PROGRAM = "qemu-system-x86_64"

_PACKAGES = {PROGRAM: "qemu-system-x86", "qemu-img": "qemu-utils", "mke2fs": "e2fsprogs"}

_KVM = Path("/dev/kvm")
_KVM_WITHIN_S = 15.0  # a kernel that KVM runs is there after one
_ALIVE = "try-it-now: this kernel runs"  # as lab/machines/guest/init writes it

_BOARD = ("-machine", "q35", "-display", "none", "-nodefaults", "-no-user-config")


@dataclass(frozen=True)
class Hardware:
    """What a machine is made of: each may be different the next time that it is switched on."""

    kernel: str = kernels.OWN
    cpu: str = "max"
    cores: int = 2
    memory_mib: int = 4096
    clock_offset_s: int = 0
    disks: tuple[str, ...] = ()
    """Paths of qcow2 files: vdc, vdd, …"""


def ensure() -> None:
    """Install QEMU where it is missing."""
    if platform.machine() != "x86_64":
        raise LabError("The lab's machines are x86_64 only: see lab/machines/qemu.py.")
    missing = sorted({pkg for program, pkg in _PACKAGES.items() if not shutil.which(program)})
    if missing:
        host_packages.install(missing)


def argv(name: str, number: int, home: Path, hardware: Hardware) -> list[str]:
    """The command line of a machine, to be run in the network namespace with its TAP device."""
    kernel = kernels.get(hardware.kernel)
    address = network.node_address(number, name)
    gateway = network.control_plane_address(number)
    options = (
        "root=/dev/vda console=ttyS0 net.ifnames=0 mitigations=off tsc=reliable "
        # Notices too: at a shutdown systemd names the processes that it waits for.
        "loglevel=6 systemd.show_status=auto "
        # systemd's own limit is 90 s, which an emulated machine may need on a busy one.
        "systemd.default_device_timeout_sec=600 "
        f"systemd.hostname={name} systemd.machine_id={machine_id(home)} "
        f"ip={address}::{gateway}:255.255.255.0:{name}:eth0:off"
    )
    now = datetime.datetime.now(datetime.UTC)
    shifted = now + datetime.timedelta(seconds=hardware.clock_offset_s)
    drives = [
        f"file={home / 'disk.qcow2'},if=virtio,format=qcow2,discard=unmap",
        f"file={home / 'configuration.img'},if=virtio,format=raw,readonly=on",
        *(f"file={disk},if=virtio,format=qcow2,discard=unmap" for disk in hardware.disks),
    ]
    return [
        PROGRAM, "-name", name, *_BOARD,
        *acceleration(), "-cpu", hardware.cpu,
        "-smp", str(hardware.cores),
        "-m", str(hardware.memory_mib),
        "-rtc", "base=utc" if shifted == now else f"base={shifted:%Y-%m-%dT%H:%M:%S}",
        "-kernel", str(kernel.image), "-initrd", str(kernel.initrd), "-append", options,
        *(word for drive in drives for word in ("-drive", drive)),
        "-netdev", f"tap,id=net,ifname={name},script=no,downscript=no",
        "-device", f"virtio-net-pci,netdev=net,mac={_mac(number, name)}",
        "-device", "virtio-rng-pci",
        "-device", "virtio-serial",
        "-chardev", f"socket,id=agent,path={home / 'agent.sock'},server=on,wait=off",
        "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        "-qmp", f"unix:{home / 'qmp.sock'},server=on,wait=off",
        "-serial", "stdio",
    ]  # fmt: skip


def acceleration() -> list[str]:
    """KVM where it runs a kernel, else emulation with room for what it translated."""
    return ["-accel", "kvm" if _kvm_runs() else "tcg,thread=multi,tb-size=512"]


def machine_id(home: Path) -> str:
    """What /etc/machine-id holds: of each machine its own, over all its boots."""
    return cache.key(str(home)) * 2


def _mac(number: int, name: str) -> str:
    return f"52:54:00:00:{number:02x}:{int(name.rpartition('-')[2]):02x}"


def _kvm_runs() -> bool:
    """Whether KVM runs an ordinary kernel here; tried once a boot of this machine."""

    def make(target: Path) -> None:
        with step("trying whether KVM runs a kernel", usually=f"{_KVM_WITHIN_S:.0f} s where not"):
            (target / "answer").write_text("yes" if _try_kvm() else "no")

    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    entry = cache.entry("kvm", cache.key("1", boot, kernels.get(kernels.OWN).version), make)
    return (entry / "answer").read_text() == "yes"


def _try_kvm() -> bool:
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return False
    kernel = kernels.get(kernels.OWN)
    words = [
        PROGRAM, *_BOARD, "-accel", "kvm", "-cpu", "max", "-m", "512", "-no-reboot",
        "-serial", "stdio", "-kernel", str(kernel.image), "-initrd", str(kernel.initrd),
        "-append", "console=ttyS0 quiet lab.probe",
    ]  # fmt: skip
    try:
        tried = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=_KVM_WITHIN_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return _ALIVE.encode() in tried.stdout
