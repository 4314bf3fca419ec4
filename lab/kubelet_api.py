"""The part of a kubelet's API that the API server calls for `kubectl logs` and `kubectl exec`.

`lab/kubelet-api` serves it and keeps no state. The lab's kubelet writes one file for each Pod: how
to enter its containers, and where their logs are.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab import binaries, certificates, control_plane, network, nodes, pods
from lab.pods import Pod, PodProcess
from lab.shell import CLEAN_ENVIRONMENT
from lab.state import Lab
from lab.supervise import Unit


@dataclass(frozen=True)
class Container:
    """One container of a Pod, as `lab/kubelet-api` reads it."""

    enter: list[str]  # the command that enters it; empty where it does not run
    env: list[str]
    log: str
    offset: int  # where in the log its Pod begins: a unit's log goes on over Pods


def unit(lab: Lab, number: int) -> Unit:
    """One for all nodes, in the network of the API server, which alone may ask."""
    home = lab.certificates
    argv = [
        str(binaries.kubelet_api()),
        f"--address={network.control_plane_address(number)}:{control_plane.KUBELET_PORT}",
        f"--pods={_directory(lab)}",
        f"--certificate={home / 'kubelet.crt'}",
        f"--key={home / 'kubelet.key'}",
        f"--client-ca={home / 'ca.crt'}",
    ]
    _directory(lab).mkdir(mode=0o700, exist_ok=True)
    return Unit("kubelet-api", control_plane.in_lab(lab, argv))


def publish(
    lab: Lab, pod: Pod, process: PodProcess, changed: dict[str, str], *, runs: bool = True
) -> None:
    """Publish a Pod or its changes; `changed` adds to the environment of its main container.

    Call it before anything of the Pod runs: then no line of its log is missed.
    """
    file = _file(lab, pod)
    before = _read(file)
    uid = pod["metadata"]["uid"]
    known = before.get("containers", {}) if before.get("uid") == uid else {}
    node = pod["spec"]["nodeName"]
    init_pid = nodes.init_pid(lab, node) if runs else None
    containers = {}
    for name, context in process.contexts.items():
        enter = nodes.enter_argv(lab, node, init_pid, context.rights) if init_pid else []
        env = {
            **CLEAN_ENVIRONMENT,
            **context.env,
            **(changed if context.unit == process.unit else {}),
        }
        log = lab.log(context.unit)
        log.touch()  # so that whoever follows it early has something to follow
        offset = known[name]["offset"] if name in known else log.stat().st_size
        words = [f"{name}={value}" for name, value in env.items()]
        containers[name] = asdict(Container(enter, words, str(log), offset))
    wanted = {"uid": uid, "containers": containers}
    if wanted != before:
        certificates.write_secret(file, json.dumps(wanted))


def withdraw_others(lab: Lab, there: list[Pod]) -> None:
    """Withdraw all Pods that no longer exist."""
    for file in {*_directory(lab).glob("*.json")} - {_file(lab, pod) for pod in there}:
        file.unlink()


def _directory(lab: Lab) -> Path:
    return lab.directory / "pods"


def _file(lab: Lab, pod: Pod) -> Path:
    # Names of Kubernetes have no underscore.
    return _directory(lab) / f"{pods.key(pod).replace('/', '_')}.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return found
