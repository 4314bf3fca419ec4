"""The agent's Pod on a node of the lab, with the node's own Podman in the kubelet's place.

What the kubelet does with such a Pod is little: directories, mounts with their propagation, two
processes; and when the Pod goes, everything in its cgroups ends. In the Pod runs the operator's
image and nothing of the checkout.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from lab import identity, nodes
from tests.system.nodes import LabNodes

MANIFEST = Path(__file__).parents[2] / "manifests/agent.yaml"

_PROPAGATION = {"Bidirectional": "rshared", "HostToContainer": "rslave", "None": "rprivate"}

# What the lab needs of Podman and CRIU because of its machine (lab/nodes.py), and no node else.
_WORKAROUNDS = (
    "/etc/containers/containers.conf.d/lab.conf",
    "/etc/containers/registries.conf",
    "/etc/criu",
    "/proc/sys/fs/nr_open",
)

_EMPTY_DIRECTORIES = "/run/agent-pod"


def shipped_pod() -> dict[str, Any]:
    """The spec of the Pods that the DaemonSet makes."""
    (daemon_set,) = (
        item for item in yaml.safe_load_all(MANIFEST.read_text()) if item["kind"] == "DaemonSet"
    )
    spec: dict[str, Any] = daemon_set["spec"]["template"]["spec"]
    return spec


class AgentPod:
    """Starts, replaces and ends the Pod."""

    def __init__(self, lab_nodes: LabNodes, node: str, image: str) -> None:
        self._nodes = lab_nodes
        self._node = node
        self._image = image
        self._spec = shipped_pod()

    def start(self) -> None:
        """Make a new Pod and start its containers in their order."""
        self._nodes.shell(self._node, f"mkdir -p {' '.join(self._sources().values())}")
        for directory in self._memory():
            self._nodes.shell(self._node, f"mount -t tmpfs tmpfs {directory}")
        for container in [*self._spec["initContainers"], *self._spec["containers"]]:
            self._nodes.podman(self._node, "run", *self._arguments(container))
            probe = container.get("startupProbe", {}).get("exec", {}).get("command")
            if probe:
                asked = " ".join(["podman", "exec", _name(container), *probe])
                waiting = f"until {asked}; do sleep 0.05; done"
                self._nodes.shell(self._node, f"timeout 20 sh -c {shlex.quote(waiting)}")

    def kill(self) -> None:
        """End it as a deleted Pod ends whose grace period is over."""
        # The agent first, as the kubelet ends sidecars after what they serve.
        containers = [*self._spec["containers"], *self._spec["initContainers"]]
        names = " ".join(_name(container) for container in containers)
        self._nodes.shell(self._node, f"podman rm --force --ignore --time=0 {names}")
        # As the kubelet does with those of memory. Removed directory by directory, they would lose
        # what is mounted on them in the mount namespace of all that still runs.
        for directory in self._memory():
            script = f"! mountpoint -q {directory} || umount --lazy {directory}"
            self._nodes.shell(self._node, script)
        self._nodes.shell(self._node, f"rm -rf {_EMPTY_DIRECTORIES}")

    def inside(self, container: str, *argv: str) -> str:
        """Run a program in one of its containers."""
        return self._nodes.podman(self._node, "exec", f"pod-{container}", *argv)

    def live(self) -> dict[str, bool]:
        """What the kubelet finds that asks by commands whether its containers live."""
        found = {}
        for container in [*self._spec["initContainers"], *self._spec["containers"]]:
            command = container.get("livenessProbe", {}).get("exec", {}).get("command")
            if command:
                asked = ["timeout", "20", "podman", "exec", _name(container), *command]
                done = self._nodes.cluster.exec(self._node, asked, check=False)
                found[container["name"]] = done.returncode == 0
        return found

    def log(self) -> str:
        """What the agent wrote."""
        done = self._nodes.cluster.exec(self._node, ["podman", "logs", "pod-agent"], check=False)
        return done.stdout + done.stderr

    def _arguments(self, container: dict[str, Any]) -> list[str]:
        security = container["securityContext"]
        arguments = [
            "--detach",
            f"--name={_name(container)}",
            "--network=host",
            "--pid=host",
            "--ipc=private",
            "--cgroupns=host",  # as containerd and CRI-O have it for the privileged
            f"--user={security['runAsUser']}:{security['runAsGroup']}",
        ]
        if security["privileged"]:
            arguments.append("--privileged")
        if security["readOnlyRootFilesystem"]:
            arguments += ["--read-only", "--read-only-tmpfs=false"]
        sources = self._sources()
        for mount in container["volumeMounts"]:
            options = _PROPAGATION[mount.get("mountPropagation", "None")]
            options += ",ro" if mount.get("readOnly") else ""
            arguments.append(f"--volume={sources[mount['name']]}:{mount['mountPath']}:{options}")
        if container["name"] == "podman":
            arguments += [f"--volume={path}:{path}:ro" for path in _WORKAROUNDS]
        arguments += [
            f"--env={name}={value}" for name, value in self._environment(container).items()
        ]
        if "command" in container:
            arguments.append(f"--entrypoint={json.dumps(container['command'])}")
        return [*arguments, self._image, *container.get("args", [])]

    def _sources(self) -> dict[str, str]:
        """Where the Pod's volumes are on the node."""
        found = {}
        for volume in self._spec["volumes"]:
            if "hostPath" in volume:
                found[volume["name"]] = volume["hostPath"]["path"]
            elif "projected" in volume:
                # Written there by the lab, together with the kubeconfig of the same account.
                found[volume["name"]] = nodes.SECRETS
            else:
                found[volume["name"]] = f"{_EMPTY_DIRECTORIES}/{volume['name']}"
        return found

    def _memory(self) -> list[str]:
        """Where the Pod's volumes of memory are on the node."""
        sources = self._sources()
        return [
            sources[volume["name"]]
            for volume in self._spec["volumes"]
            if volume.get("emptyDir", {}).get("medium") == "Memory"
        ]

    def _environment(self, container: dict[str, Any]) -> dict[str, str]:
        fields = {
            "spec.nodeName": self._node,
            "status.hostIP": self._nodes.cluster.node_address(self._node),
            "metadata.namespace": identity.NAMESPACE,
        }
        found = {
            variable["name"]: variable["value"]
            if "value" in variable
            else fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            for variable in container.get("env", [])
        }
        # What the killed Pod was just making is nobody's, and is looked for at the test's end.
        found["ORPHAN_GRACE"] = "5s"
        # The lab's nodes have no cgroup controllers (lab/values.yaml).
        found["ALLOW_UNENFORCED_LIMITS"] = "true"
        return {**found, "KUBECONFIG": f"{nodes.SECRETS}/agent-{self._node}/kubeconfig"}


def _name(container: dict[str, Any]) -> str:
    return f"pod-{container['name']}"
