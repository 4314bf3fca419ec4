"""Turns a Pod of ours into a program that runs in one of the lab's nodes. No cluster needed.

A Pod here is a process in a node: it has the command, the environment, the identity, the user, the
capabilities and the read-only files that its spec says, and shares the rest with its node: network,
image (the node's own files) and volumes. Seccomp profiles and limits are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lab import LabError, nodes

IMAGE = "try-it-now"
ENTRYPOINT = "tryitnow"
"""Of the image that the nodes have in place of one that is pulled."""

CONTROL = "control"
"""Where Pods run that are not bound to a node: its network is the control plane's."""

UNIT = "lab.tryitnow.dev/unit"
"""Annotation of a Pod: the unit that runs it."""

TOKENS = "/var/run/secrets/tryitnow"
"""Where our Pods have tokens mounted; the same as nodes.SECRETS."""

_WRITABLE = ("/", "/run", "/tmp", "/dev/shm", "/var/lib/containers", "/var/lib/try-it-now",
             "/var/cache/try-it-now")  # fmt: skip
"""Mounts of a node; those of a Pod's image and volumes would be its own."""

Pod = dict[str, Any]


def key(pod: Pod) -> str:
    """Namespace and name."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def path(pod: Pod) -> str:
    """Where the API has it."""
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def node_of(pod: Pod) -> str:
    """The node to run on: the one that a DaemonSet made it for, else the control plane."""
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    for term in required.get("nodeSelectorTerms", []):
        for field in term.get("matchFields", []):
            if field["key"] == "metadata.name":
                return str(field["values"][0])
    return CONTROL


def ends(pod: Pod) -> bool:
    """Whether it is to run once."""
    return bool(pod["spec"].get("restartPolicy") == "Never")


def unit_name(pod: Pod, taken: set[str]) -> str:
    """The unit that runs it: `agent-node-1`; `controller`, or `controller-2` beside another."""
    container = main_container(pod)["name"]
    node = pod["spec"].get("nodeName") or node_of(pod)
    if node != CONTROL:
        return f"{container}-{node}"
    if ends(pod):
        return str(pod["metadata"]["name"])
    names = (container if number == 1 else f"{container}-{number}" for number in range(1, 100))
    return next(name for name in names if name not in taken)


def main_container(pod: Pod) -> dict[str, Any]:
    """Its only container; of sidecars the node has its own.

    Raises:
        LabError: the lab cannot run it.

    """
    containers = pod["spec"]["containers"]
    if len(containers) != 1 or not _is_ours(containers[0]["image"]):
        raise LabError(f"{key(pod)}: the lab runs Pods with one container of {IMAGE} only.")
    found: dict[str, Any] = containers[0]
    return found


def _is_ours(image: str) -> bool:
    """Whether its name, without registry, tag and digest, is our image's."""
    return image.rpartition("/")[2].partition("@")[0].partition(":")[0] == IMAGE


@dataclass(frozen=True)
class ContainerContext:
    """The environment of a command that runs inside of a container."""

    unit: str
    """The unit that runs the container and has its log."""

    rights: list[str]
    """Puts the security context on the command that is appended to it."""

    env: dict[str, str]


@dataclass(frozen=True)
class PodProcess:
    """A Pod as a program."""

    unit: str
    argv: list[str]
    env: dict[str, str]
    uid: int
    metrics_port: int | None
    contexts: dict[str, ContainerContext]
    """By the container's name, with those of sidecars, which share the node's own program."""


def pod_process(pod: Pod, address: str) -> PodProcess:
    """Turn a Pod that is bound to a node with that address into a program."""
    container = main_container(pod)
    unit = pod["metadata"]["annotations"][UNIT]
    env = _environment(pod, container, address)
    env["KUBECONFIG"] = f"{nodes.SECRETS}/{unit}/kubeconfig"
    port = _port(container)
    # Pods have an address each; here they share one.
    beside = unit.rpartition("-")[2] if pod["spec"]["nodeName"] == CONTROL else ""
    if port and beside.isdigit():
        port += int(beside) - 1
        env["METRICS_PORT"] = str(port)
    argv = [*(container.get("command") or [ENTRYPOINT]), *container.get("args", [])]
    rights = _rights(pod, container)
    contexts = {container["name"]: ContainerContext(unit, rights, env)}
    for beside_it in sidecars(pod):
        name = beside_it["name"]
        its_unit = f"{name}-{pod['spec']['nodeName']}"
        its_env = _environment(pod, beside_it, address)
        contexts[name] = ContainerContext(its_unit, _rights(pod, beside_it), its_env)
    return PodProcess(unit, [*rights, *argv], env, _user(pod, container), port, contexts)


def sidecars(pod: Pod) -> list[dict[str, Any]]:
    """The containers that run beside the main one, from before its start on."""
    init = pod["spec"].get("initContainers", [])
    return [container for container in init if container.get("restartPolicy") == "Always"]


def _port(container: dict[str, Any]) -> int | None:
    ports = {entry.get("name"): entry["containerPort"] for entry in container.get("ports", [])}
    return ports.get("metrics")


def _environment(pod: Pod, container: dict[str, Any], address: str) -> dict[str, str]:
    env: dict[str, str] = {}
    for entry in container.get("env", []):
        # $(NAME) is the value of a variable before it; one that there is not stays as it stands.
        env[entry["name"]] = re.sub(
            r"\$\(([A-Za-z_]\w*)\)",
            lambda found: env.get(found[1], found[0]),
            _value(pod, entry, address),
        )
    return env


def _value(pod: Pod, entry: dict[str, Any], address: str) -> str:
    if "valueFrom" not in entry:
        return str(entry.get("value", ""))
    field = entry["valueFrom"].get("fieldRef", {}).get("fieldPath", "")
    fields = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.namespace": pod["metadata"]["namespace"],
        "spec.nodeName": pod["spec"]["nodeName"],
        "status.hostIP": address,
        "status.podIP": address,
    }
    if field not in fields:
        raise LabError(f"{key(pod)}: the lab knows no value for {entry['name']}.")
    return str(fields[field])


def _context(pod: Pod, container: dict[str, Any]) -> dict[str, Any]:
    return {**pod["spec"].get("securityContext", {}), **container.get("securityContext", {})}


def _user(pod: Pod, container: dict[str, Any]) -> int:
    return int(_context(pod, container).get("runAsUser", 0))


def _rights(pod: Pod, container: dict[str, Any]) -> list[str]:
    """What runs a command with the rights that the security context leaves it."""
    context = _context(pod, container)
    if context.get("privileged"):
        return []
    uid = _user(pod, container)
    gid = int(context.get("runAsGroup", uid))
    if context.get("runAsNonRoot") and uid == 0:
        raise LabError("The Pod must not run as root, and says no other user.")
    rights = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--pdeathsig=KILL"]
    if context.get("allowPrivilegeEscalation") is False:
        rights.append("--no-new-privs")
    if "ALL" in context.get("capabilities", {}).get("drop", []):
        rights += ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    rights.append("--")
    if not context.get("readOnlyRootFilesystem"):
        return rights
    script = (
        'for m in $MOUNTS; do ! mountpoint -q $m || mount -o remount,bind,ro $m; done; exec "$@"'
    )
    mounts = f"MOUNTS={' '.join(_WRITABLE)}"
    return ["unshare", "--mount", "env", mounts, "sh", "-euc", script, "sh",
            "env", "--unset=MOUNTS", *rights]  # fmt: skip


def transfer_tokens(pod: Pod) -> dict[str, str]:
    """File name below TOKENS -> audience, of the tokens that the Pod has mounted."""
    mounts = {mount["name"]: mount["mountPath"]
              for mount in main_container(pod).get("volumeMounts", [])}  # fmt: skip
    found = {}
    for volume in pod["spec"].get("volumes", []):
        if mounts.get(volume["name"]) != TOKENS:
            continue
        for source in volume.get("projected", {}).get("sources", []):
            if "serviceAccountToken" in source:
                token = source["serviceAccountToken"]
                found[token["path"]] = token["audience"]
    return found


def status(
    pod: Pod, address: str, *, phase: str, ready: bool, since: str, restarts: int = 0
) -> dict[str, Any]:
    """The status that a kubelet would write."""
    container = main_container(pod)
    state: dict[str, Any] = {"running": {"startedAt": since}}
    if phase not in {"Running", "Pending"}:
        code = 0 if phase == "Succeeded" else 1
        state = {"terminated": {"exitCode": code, "startedAt": since, "finishedAt": since}}
    beside = [_container_status(sidecar, state, ready=phase == "Running", phase=phase)
              for sidecar in sidecars(pod)]  # fmt: skip
    conditions = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready,
                  "Ready": ready}  # fmt: skip
    return {
        "phase": phase,
        "hostIP": address,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": since,
        "conditions": [
            {
                "type": name,
                "status": str(holds),
                "lastTransitionTime": since,
                "observedGeneration": pod["metadata"].get("generation", 1),
            }
            for name, holds in conditions.items()
        ],
        **({"initContainerStatuses": beside} if beside else {}),
        "containerStatuses": [
            _container_status(container, state, ready=ready, phase=phase, restarts=restarts)
        ],
    }


def _container_status(
    container: dict[str, Any], state: dict[str, Any], *, ready: bool, phase: str, restarts: int = 0
) -> dict[str, Any]:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": ready,
        "started": phase == "Running",
        "restartCount": restarts,
        "state": state,
    }
