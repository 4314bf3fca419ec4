"""A Prometheus that scrapes the lab, with the configuration and the rules that ship.

Two things differ from manifests/prometheus/scrape.yaml. Debian's Prometheus is built without the
discovery of Pods: it reads from a file what that would find, with the same labels, so
the relabelling is the one that ships. And it scrapes more often, as nobody wants to wait here.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab import LabError, binaries, control_plane, network
from lab.state import Lab
from lab.supervise import Unit

UNIT = "prometheus"

INTERVAL_SECONDS = 5
"""Between two scrapes, and two evaluations of the rules; scrape.yaml says 15."""

_PORT = 9090
_UP_WITHIN_S = 30.0

_DISCOVERY = r"^    kubernetes_sd_configs:\n(?:      .*\n)+"


@dataclass(frozen=True)
class Target:
    """An entry of a file that Prometheus reads targets from."""

    targets: list[str]
    labels: dict[str, str]


def url(number: int) -> str:
    """Where its web page and its API are."""
    return f"http://{network.control_plane_address(number)}:{_PORT}"


def unit(lab: Lab, number: int, checkout: Path, found: list[Target]) -> Unit:
    """Write its configuration; returns it as a supervised unit."""
    manifests = checkout / "manifests/prometheus"
    home = lab.directory / UNIT
    home.mkdir(exist_ok=True)
    shutil.copyfile(manifests / "rules.yaml", home / "rules.yaml")
    config = (manifests / "scrape.yaml").read_text()
    config = _replaced(_DISCOVERY, "    file_sd_configs:\n      - files: [targets.json]\n", config)
    config = _replaced(r"_interval: 15s$", f"_interval: {INTERVAL_SECONDS}s", config)
    (home / "prometheus.yaml").write_text(config)
    (home / "targets.json").write_text(json.dumps([asdict(target) for target in found]))
    argv = [
        str(binaries.tool("prometheus")),
        f"--config.file={home / 'prometheus.yaml'}",
        f"--storage.tsdb.path={home / 'data'}",
        f"--web.listen-address={network.control_plane_address(number)}:{_PORT}",
        "--log.level=warn",
    ]
    return Unit(UNIT, control_plane.in_lab(lab, argv))


def targets(pods: list[dict[str, Any]]) -> list[Target]:
    """Each port of each Pod, with the labels that Kubernetes discovery would give it."""
    return [
        _target(pod, container, port)
        for pod in pods
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
    ]


def _target(pod: dict[str, Any], container: dict[str, Any], port: dict[str, Any]) -> Target:
    metadata = pod["metadata"]
    labels = {
        "namespace": metadata["namespace"],
        "pod_name": metadata["name"],
        "pod_node_name": pod["spec"].get("nodeName", ""),
        "pod_container_name": container["name"],
        "pod_container_port_name": port.get("name", ""),
    }
    for name, value in metadata["labels"].items():
        labels["pod_label_" + re.sub(r"\W", "_", name)] = value
    return Target(
        targets=[f"{pod['status']['podIP']}:{port['containerPort']}"],
        labels={f"__meta_kubernetes_{name}": value for name, value in labels.items()},
    )


def _replaced(pattern: str, by: str, text: str) -> str:
    result, number = re.subn(pattern, by, text, flags=re.MULTILINE)
    if number != 2:
        raise LabError(f"scrape.yaml has {pattern!r} {number} times, not 2: see lab/prometheus.py.")
    return result


def wait_ready(lab: Lab, number: int) -> None:
    """Wait until it answers queries."""
    deadline = time.monotonic() + _UP_WITHIN_S
    while not _ready(number):
        if time.monotonic() > deadline:
            log = lab.log(UNIT)
            raise LabError(f"Prometheus is not ready, see {log}:\n{log.read_text()[-1500:]}")
        time.sleep(0.05)


def _ready(number: int) -> bool:
    address = network.control_plane_address(number)
    connection = http.client.HTTPConnection(address, _PORT, timeout=10)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
