"""The operator's Pods as objects: what a scheduler and a kubelet would make of its manifests.

The programs themselves are units of the lab, not containers of these Pods. Whoever looks Pods up
finds them all the same, with the labels, ports and addresses that they have in a cluster:
Prometheus, and the commands of the runbooks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab import LabError, network
from lab.api import Api
from lab.identity import NAMESPACE
from lab.state import Shape

_CORE = f"/api/v1/namespaces/{NAMESPACE}/pods"
_APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}"

Found = dict[str, Any]


def make(api: Api, shape: Shape) -> list[Found]:
    """The controller's Pod and those of the agents, created where they are not there yet."""
    controller = _template(api, "deployments", "controller")
    address = network.control_plane_address(shape.network)
    made = [_make(api, "tryitnow-controller-0", controller, address)]
    agent = _template(api, "daemonsets", "agent")
    for node in shape.node_names:
        address = network.node_address(shape.network, node)
        made.append(_make(api, f"tryitnow-agent-{node}", agent, address, {"nodeName": node}))
    return made


def _template(api: Api, plural: str, component: str) -> Found:
    selector = f"app.kubernetes.io/component%3D{component}"
    items = (api.get(f"{_APPS}/{plural}?labelSelector={selector}") or {}).get("items", [])
    if len(items) != 1:
        raise LabError(f"manifests/ has {len(items)} {plural} labelled as {component}, not one.")
    template: Found = items[0]["spec"]["template"]
    return template


def _make(
    api: Api, name: str, template: Found, address: str, where: Mapping[str, str] | None = None
) -> Found:
    if api.get(f"{_CORE}/{name}") is None:
        metadata = {"name": name, "labels": template["metadata"]["labels"]}
        spec = {**template["spec"], **(where or {})}
        api.create(_CORE, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {
                "name": container["name"],
                "ready": True,
                "restartCount": 0,
                "image": container["image"],
                "imageID": "",
            }
            for container in template["spec"]["containers"]
        ],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "status": status}
    return api.apply(f"{_CORE}/{name}/status", pod)
