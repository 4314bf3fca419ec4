"""The operator's two programs as units, with the environment that their Pods would give them."""

from __future__ import annotations

import os
from pathlib import Path

from lab import control_plane, identity, nodes
from lab.state import Lab
from lab.supervise import Unit

# The controller runs in a namespace like a node's, with the same Python and packages as the
# agents, as they would share one image; its network is the control plane's.
CONTROLLER_HOME = "control"


def units(lab: Lab, addresses: dict[str, str], checkout: Path) -> list[Unit]:
    """The controller, and an agent for each node."""
    agents = [
        Unit(f"agent-{node}", ["tryitnow", "agent"], agent_environment(node, address), node=node)
        for node, address in addresses.items()
    ]
    return [_controller(lab, checkout), *agents]


def controller_environment() -> dict[str, str]:
    """What the Deployment would give it."""
    return {"KUBECONFIG": f"{nodes.SECRETS}/kubeconfig", "POD_NAMESPACE": identity.NAMESPACE}


def agent_environment(node: str, address: str) -> dict[str, str]:
    """What the DaemonSet would give it."""
    return {
        "NODE_NAME": node,
        "NODE_ADDRESS": address,
        "KUBECONFIG": f"{nodes.SECRETS}/kubeconfig",
        "TRANSFER_TOKEN_FILE": f"{nodes.SECRETS}/transfer-token",
        "POD_NAMESPACE": identity.NAMESPACE,
        "PODMAN_SOCKET": nodes.SOCKET,
        "CHECKPOINT_PATH": "/var/lib/try-it-now/checkpoints",
        "CONTAINER_MODE": "podman",
        "CRIU_ENABLED": "true",
    }


def _controller(lab: Lab, checkout: Path) -> Unit:
    environment = controller_environment()
    own_python = os.environ.get("LAB_PYTHON")
    if not own_python:
        return Unit("controller", ["tryitnow", "controller"], environment, node=CONTROLLER_HOME)
    # For a debugger or a coverage tool: the controller with this machine's files and Python.
    secrets = lab.node_directory(CONTROLLER_HOME) / "secrets"
    environment |= {
        "KUBECONFIG": str(secrets / "kubeconfig"),
        "PYTHONPATH": str(checkout / "operator"),
    }
    command = control_plane.in_lab(lab, [own_python, "-m", "tryitnow", "controller"])
    return Unit("controller", command, environment)
