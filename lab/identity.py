"""Who the operator's programs are to the API server, and what they need of it to exist.

Agents identify as they would from a DaemonSet: with a token bound to their Node, which the API
server turns into the node-name claim that admission policies read.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lab import LabError, binaries, certificates, control_plane
from lab.api import Api
from lab.shell import run
from lab.state import Lab

NAMESPACE = "tryitnow-system"
CONTROLLER = "tryitnow-controller"
AGENT = "tryitnow-agent"
TRANSFER_AUDIENCE = "tryitnow-agent-transfer"

_SERVED_WITHIN_S = 30.0

_TOKEN_SECONDS = 7 * 24 * 3600


def apply_manifests(lab: Lab, api: Api, checkout: Path) -> None:
    """Server-side apply of crds/ and manifests/, as a person would with kubectl."""
    kubectl = binaries.kubectl_directory() / "kubectl"
    admin = f"--kubeconfig={lab.kubeconfig}"
    apply = (kubectl, admin, "apply", "--server-side", "--force-conflicts")
    for needed in ("crds", "manifests"):
        if not (checkout / needed).is_dir():
            raise LabError(f"{checkout / needed} is missing: use --without-operator.")
    run(*apply, *_source(checkout / "crds"))
    run(
        kubectl, admin, "wait", "--for=condition=Established", "--timeout=30s",
        "customresourcedefinitions", "--all",
    )  # fmt: skip
    run(*apply, *_source(checkout / "manifests"))
    _wait_served(api)


def _wait_served(api: Api) -> None:
    """Wait until our kinds can be listed: Established comes a second before their storage."""
    group = "/apis/tryitnow.dev/v1alpha1"
    deadline = time.monotonic() + _SERVED_WITHIN_S
    for plural in ("checkpoints", "demoinstances", "nodecheckpoints", "nodeagents"):
        while not api.answers(f"{group}/{plural}"):
            if time.monotonic() > deadline:
                raise LabError(f"The API server does not list {plural}: see its log.")
            time.sleep(0.02)


def token(
    api: Api, service_account: str, *, audiences: list[str] | None = None, node: str | None = None
) -> str:
    """A token of a service account in the operator's namespace, bound to a Node where named."""
    spec: dict[str, Any] = {"expirationSeconds": _TOKEN_SECONDS, "audiences": audiences or []}
    if node:
        found = api.get(f"/api/v1/nodes/{node}")
        if not found:
            raise LabError(f"There is no Node {node} to bind a token to.")
        uid = found["metadata"]["uid"]
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{service_account}/token"
    issued: str = api.create(path, request)["status"]["token"]
    return issued


def write_controller(lab: Lab, api: Api, number: int, secrets: Path) -> None:
    """What the controller identifies with."""
    _write_kubeconfig(lab, number, secrets, token(api, CONTROLLER))


def write_agent(lab: Lab, api: Api, number: int, secrets: Path, node: str) -> None:
    """What one node's agent identifies with: to the API server, and to the other agents."""
    _write_kubeconfig(lab, number, secrets, token(api, AGENT, node=node))
    transfer = token(api, AGENT, audiences=[TRANSFER_AUDIENCE], node=node)
    certificates.write_secret(secrets / "transfer-token", transfer)


def _write_kubeconfig(lab: Lab, number: int, secrets: Path, bearer: str) -> None:
    server = control_plane.server(number)
    content = certificates.token_kubeconfig(lab, server, bearer, NAMESPACE)
    certificates.write_secret(secrets / "kubeconfig", content)


def _source(directory: Path) -> list[str]:
    """How kubectl is told about a directory: with a kustomization or as plain files."""
    kustomization = (directory / "kustomization.yaml").exists()
    return ["--kustomize" if kustomization else "--filename", str(directory)]
