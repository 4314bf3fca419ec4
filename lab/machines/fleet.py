"""All machines of a lab, and the operator on them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import (
    LabError,
    binaries,
    control_plane,
    nodes,
    operator_image,
    registry,
    release,
    supervise,
)
from lab.api import Api
from lab.machines import disk, qemu
from lab.machines.machine import Machine
from lab.progress import step
from lab.state import Lab

READY_WITHIN_S = 600.0
"""From power on to a Node that is Ready: about 60 s alone, some minutes on two busy cores."""

_INSTALLED_WITHIN_S = 900
_POLL_S = 0.5

_VALUES = Path(__file__).parent / "values.yaml"


def make_ready() -> Path:
    """Have what takes long in the cache; returns the disk that machines start from."""
    qemu.ensure()
    qemu.acceleration()
    binaries.scheduler()
    return disk.base()


def power_on(machines: Sequence[Machine], base: Path, addresses: Mapping[str, str]) -> None:
    """Make the machines and switch them on; they boot while the control plane starts."""
    for machine in machines:
        machine.prepare(base, addresses)
        machine.power_on()


def start_scheduler(lab: Lab) -> None:
    """Start the scheduler; the API server has to be ready."""
    supervise.define(lab, control_plane.scheduler(lab, binaries.scheduler()))


def wait_ready(machine: Machine, api: Api, within_s: float = READY_WITHIN_S) -> None:
    """Wait until a machine's Node is Ready, as its kubelet of this boot reports."""
    deadline = time.monotonic() + within_s
    machine.wait_booted()
    boot = machine.boot_id()
    while not _is_ready(machine, api, boot):
        if time.monotonic() > deadline:
            log = machine.run("journalctl", "--unit=kubelet", "--lines=15", check=False).stdout
            raise LabError(
                f"Node {machine.name} is not Ready {within_s:g} s after its boot. kubelet:\n{log}"
            )
        time.sleep(_POLL_S)


def install_operator(lab: Lab, number: int, api: Api, *, controller_on: str | None) -> None:
    """Build the operator's image, push it, and install the chart as docs/install.md says."""
    reference = operator_image.build()
    pushed = operator_image.push(reference, registry.location(number))
    _, _, tag = pushed.rpartition(":")
    words = [
        f"--set=image.repository={nodes.REGISTRY_ALIAS}/try-it-now",
        f"--set=image.tag={tag}",
        f"--set-json=agent.podman.registriesConf={json.dumps(_plain_http(number))}",
    ]
    if controller_on:
        label = f"kubernetes\\.io/hostname={controller_on}"
        words.append(f"--set=controller.nodeSelector.{label}")
    with step("operator: helm install", usually="3 min"):
        release.install(lab, api, *words, values=_VALUES, within_s=_INSTALLED_WITHIN_S)


def _is_ready(machine: Machine, api: Api, boot: str) -> bool:
    node = api.get(f"/api/v1/nodes/{machine.name}")
    if not node or node["status"].get("nodeInfo", {}).get("bootID") != boot:
        return False
    conditions = {found["type"]: found["status"] for found in node["status"]["conditions"]}
    return conditions.get("Ready") == "True"


def _plain_http(number: int) -> str:
    """A drop-in of registries.conf(5) for the lab's registry, by both of its names."""
    return "".join(
        f'[[registry]]\nlocation = "{location}"\ninsecure = true\n'
        for location in (registry.location(number), nodes.REGISTRY_ALIAS)
    )
