"""Identities of the operator's programs at the API server, and the objects that they need.

Agents identify as they would from a DaemonSet: with a token bound to their Node, which the API
server turns into the node-name claim that admission policies read.
"""

from __future__ import annotations

from typing import Any

from lab import LabError
from lab.api import Api

NAMESPACE = "tryitnow-system"
CONTROLLER = "tryitnow-controller"
AGENT = "tryitnow-agent"
TRANSFER_AUDIENCE = "tryitnow-agent-transfer"

_SERVED_WITHIN_S = 30.0

_TOKEN_SECONDS = 7 * 24 * 3600


def token(
    api: Api,
    service_account: str,
    *,
    audiences: list[str] | None = None,
    node: str | None = None,
    pod: dict[str, Any] | None = None,
) -> str:
    """A token of a service account, bound to a Node or a Pod, whose namespace is the account's.

    Without a Pod the account is in the operator's namespace.
    """
    namespace = NAMESPACE
    spec: dict[str, Any] = {"expirationSeconds": _TOKEN_SECONDS, "audiences": audiences or []}
    if node:
        found = api.get(f"/api/v1/nodes/{node}")
        if not found:
            raise LabError(f"There is no Node {node} to bind a token to.")
        uid = found["metadata"]["uid"]
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
    if pod:
        metadata = pod["metadata"]
        namespace = metadata["namespace"]
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"],
                                  "uid": metadata["uid"]}  # fmt: skip
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
    issued: str = api.create(path, request)["status"]["token"]
    return issued
