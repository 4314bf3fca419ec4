"""etcd, kube-apiserver and the few controllers of Kubernetes that our operator needs.

Where all nodes are light, no scheduler and no kubelet run. lab/kubelet.py stands for both, for our
own Pods; lab/kubelet_api.py answers the API server. A lab with machines has them all.
"""

from __future__ import annotations

import time
from pathlib import Path

from lab import LabError, binaries, certificates, network
from lab.api import Api
from lab.binaries import ControlPlane
from lab.state import Lab
from lab.supervise import Unit

# Deleting (owner references, namespaces), identities (accounts, roots, aggregated roles) and what
# makes Pods of our Deployment, DaemonSet and Jobs.
_CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "validatingadmissionpolicy-status-controller",
)

KUBELET_PORT = 10250

# Memory in the unit that kubelets report it in.
_CAPACITY = {"cpu": "2", "memory": "8388608Ki", "pods": "110"}

_UP_WITHIN_S = 60.0


def server(number: int) -> str:
    """The URL of the API server."""
    return f"https://{network.control_plane_address(number)}:6443"


def prepare(lab: Lab, number: int) -> None:
    """Make certificates and kubeconfigs."""
    certificates.make(lab, network.control_plane_address(number))
    for who, path in (
        ("admin", lab.kubeconfig),
        ("controller-manager", lab.certificates / "controller-manager.kubeconfig"),
        ("scheduler", lab.certificates / "scheduler.kubeconfig"),
    ):
        content = certificates.client_certificate_kubeconfig(lab, server(number), who)
        certificates.write_secret(path, content)


def units(lab: Lab, number: int, programs: ControlPlane, *, machines: bool) -> list[Unit]:
    """etcd and the API server, to be started together: the API server waits for etcd itself."""
    address = network.control_plane_address(number)
    home = lab.certificates
    etcd = [
        str(programs.etcd),
        f"--name={lab.name}",
        f"--data-dir={lab.directory / 'etcd'}",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        f"--initial-cluster={lab.name}=http://127.0.0.1:2380",
        "--unsafe-no-fsync",  # a lab's data need not survive a power cut
        "--log-level=warn",
    ]
    api = [
        str(programs.kube_apiserver),
        "--etcd-servers=http://127.0.0.1:2379",
        f"--bind-address={address}",
        f"--advertise-address={address}",
        "--secure-port=6443",
        "--service-cluster-ip-range=10.96.0.0/16",
        # Only Pods on machines need a Service with its address, and it takes seconds.
        *([] if machines else ["--endpoint-reconciler-type=none"]),
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
        f"--tls-cert-file={home / 'server.crt'}",
        f"--tls-private-key-file={home / 'server.key'}",
        f"--client-ca-file={home / 'ca.crt'}",
        "--kubelet-preferred-address-types=ExternalIP,InternalIP",
        f"--kubelet-certificate-authority={home / 'ca.crt'}",
        f"--kubelet-client-certificate={home / 'kubelet-client.crt'}",
        f"--kubelet-client-key={home / 'kubelet-client.key'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={home / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={home / 'service-accounts.key'}",
    ]
    return [
        Unit("etcd", in_lab(lab, etcd)),
        Unit("kube-apiserver", in_lab(lab, api)),
    ]


def controller_manager(lab: Lab, programs: ControlPlane, *, machines: bool) -> Unit:
    """Started once the API server answers: it gives up at once otherwise."""
    argv = [
        str(programs.kube_controller_manager),
        f"--kubeconfig={lab.certificates / 'controller-manager.kubeconfig'}",
        f"--service-account-private-key-file={lab.certificates / 'service-accounts.key'}",
        f"--root-ca-file={lab.certificates / 'ca.crt'}",
        f"--controllers={'*' if machines else ','.join(_CONTROLLERS)}",
        "--leader-elect=false",
        "--secure-port=0",
    ]
    return Unit("kube-controller-manager", in_lab(lab, argv))


def scheduler(lab: Lab, program: Path) -> Unit:
    """Started where there are machines; lab/kubelet.py binds Pods elsewhere."""
    argv = [
        str(program),
        f"--kubeconfig={lab.certificates / 'scheduler.kubeconfig'}",
        "--leader-elect=false",
        "--secure-port=0",
    ]
    return Unit("kube-scheduler", in_lab(lab, argv))


def in_lab(lab: Lab, argv: list[str]) -> list[str]:
    """A command that runs in the network of the control plane."""
    return ["nsenter", f"--net={network.NAMESPACES / lab.namespace}", "--", *argv]


def wait_ready(lab: Lab, api: Api) -> None:
    """Wait until the API server says that it is ready."""
    deadline = time.monotonic() + _UP_WITHIN_S
    while not api.ready():
        if time.monotonic() > deadline:
            raise LabError(
                f"The API server is not ready after {_UP_WITHIN_S:.0f} s: "
                f"see {lab.log('kube-apiserver')} and {lab.log('etcd')}"
            )
        time.sleep(0.05)


def create_node(
    api: Api, name: str, address: str, kubelet_api: str, *, control_plane: bool = False
) -> None:
    """The Node object, which a kubelet would make; made again it stays as it is.

    Args:
        api: As the administrator.
        name: Of the node.
        address: Of the node.
        kubelet_api: The address at which the API server asks its kubelet.
        control_plane: Whether no DaemonSet shall have a Pod there.

    """
    role = "node-role.kubernetes.io/control-plane"
    taints = [{"key": role, "effect": "NoSchedule"}] if control_plane else []
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": binaries.architecture(),
                **({role: ""} if control_plane else {}),
            },
        },
        "spec": {"taints": taints},
    }
    api.apply(f"/api/v1/nodes/{name}", node)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    status = {
        "addresses": [
            {"type": "InternalIP", "address": address},
            {"type": "Hostname", "address": name},
            # Not the node's own: it is how the API server is told to ask elsewhere.
            {"type": "ExternalIP", "address": kubelet_api},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        # For a scheduler, where there is one.
        "capacity": _CAPACITY,
        "allocatable": _CAPACITY,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "LabNode",
                "message": "The lab stands for its kubelet.",
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }
        ],
    }
    api.apply(f"/api/v1/nodes/{name}/status", {**node, "status": status})
    # Without the taint of each new node, which the node lifecycle controller would take off by now.
    api.merge(f"/api/v1/nodes/{name}", {"spec": {"taints": taints}})
