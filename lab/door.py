"""What `kubectl logs` and `kubectl exec` come to, by way of the API server: the kubelets' door.

`lab/kubelet-door` serves it and knows nothing itself. The kubelet writes for it, a file for each
Pod, how to come into its containers and where their logs are.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab import binaries, certificates, control_plane, network, nodes, pods
from lab.pods import Played, Pod
from lab.shell import CLEAN_ENVIRONMENT
from lab.state import Lab
from lab.supervise import Unit


@dataclass(frozen=True)
class Container:
    """One container of a Pod, as the door reads it."""

    enter: list[str]  # what a command is appended to; nothing where it does not run
    env: list[str]
    log: str
    offset: int  # where in the log its Pod begins: a unit's log goes on over Pods


def unit(lab: Lab, number: int) -> Unit:
    """One for all nodes, in the network of the API server, which alone may ask."""
    home = lab.certificates
    argv = [
        str(binaries.kubelet_door()),
        f"--address={network.control_plane_address(number)}:{control_plane.KUBELET_PORT}",
        f"--pods={_directory(lab)}",
        f"--certificate={home / 'kubelet.crt'}",
        f"--key={home / 'kubelet.key'}",
        f"--client-ca={home / 'ca.crt'}",
    ]
    _directory(lab).mkdir(mode=0o700, exist_ok=True)
    return Unit("kubelet-door", control_plane.in_lab(lab, argv))


def open_to(
    lab: Lab, pod: Pod, played: Played, changed: dict[str, str], *, runs: bool = True
) -> None:
    """Let the door find a Pod, or what is new of it; `changed` is of its main container's env.

    To be called before anything of the Pod runs, so that nothing it writes is missed.
    """
    file = _file(lab, pod)
    before = _read(file)
    uid = pod["metadata"]["uid"]
    known = before.get("containers", {}) if before.get("uid") == uid else {}
    node = pod["spec"]["nodeName"]
    holder = nodes.holder(lab, node) if runs else None
    containers = {}
    for name, room in played.rooms.items():
        enter = nodes.enter_argv(lab, node, holder, room.rights) if holder else []
        env = {**CLEAN_ENVIRONMENT, **room.env, **(changed if room.unit == played.unit else {})}
        log = lab.log(room.unit)
        log.touch()  # so that whoever follows it early has something to follow
        offset = known[name]["offset"] if name in known else log.stat().st_size
        words = [f"{name}={value}" for name, value in env.items()]
        containers[name] = asdict(Container(enter, words, str(log), offset))
    wanted = {"uid": uid, "containers": containers}
    if wanted != before:
        certificates.write_secret(file, json.dumps(wanted))


def close_but(lab: Lab, there: list[Pod]) -> None:
    """Forget the Pods that are gone, however they went."""
    for file in {*_directory(lab).glob("*.json")} - {_file(lab, pod) for pod in there}:
        file.unlink()


def _directory(lab: Lab) -> Path:
    return lab.directory / "pods"


def _file(lab: Lab, pod: Pod) -> Path:
    # Names of Kubernetes hold no underscore.
    return _directory(lab) / f"{pods.key(pod).replace('/', '_')}.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return found
