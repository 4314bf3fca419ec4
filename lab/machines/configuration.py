"""What makes a machine a node of its lab: the files on its configuration disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from lab import certificates, control_plane, network, nodes, registry
from lab.state import Lab

SERVICES = "10.96.0.0/16"
_PODS = "10.244.0.0/16"

_KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "authentication": {
        "anonymous": {"enabled": False},
        "webhook": {"enabled": True},
        "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
    },
    "authorization": {"mode": "Webhook"},
    "cgroupDriver": "systemd",
    "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
    "resolvConf": "/etc/resolv.conf",
    "serializeImagePulls": False,
    "tlsCertFile": "/etc/kubernetes/kubelet.crt",
    "tlsPrivateKeyFile": "/etc/kubernetes/kubelet.key",
}

_PROXY = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "mode": "nftables",
    "clusterCIDR": _PODS,
    "clientConnection": {"kubeconfig": "/etc/kubernetes/kube-proxy.kubeconfig"},
    "conntrack": {"maxPerCore": 0},
}


def write(lab: Lab, number: int, name: str, addresses: Mapping[str, str], tree: Path) -> None:
    """Write the files of a machine into a directory.

    Args:
        lab: The lab.
        number: Of its network.
        name: Of the machine, which is its Node's too.
        addresses: Of all nodes and machines, by name.
        tree: The directory to fill: `root` of it is copied over the machine's own root.

    """
    address = addresses[name]
    _identify(lab, name, address)
    for path, content in _files(lab, number, name, addresses).items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(mode=0o600)
        target.write_text(content)
    for public in ("root/etc/hosts", "root/etc/hostname"):
        (tree / public).chmod(0o644)


def _identify(lab: Lab, name: str, address: str) -> None:
    """Certificates by which kubelet and API server know each other."""
    client = "extendedKeyUsage=clientAuth"
    certificates.sign(lab, name, f"/O=system:nodes/CN=system:node:{name}", client)
    names = f"subjectAltName=IP:{address},DNS:{name}"
    certificates.sign(lab, f"{name}-server", f"/O=system:nodes/CN=system:node:{name}", names)
    if not (lab.certificates / "kube-proxy.crt").exists():
        certificates.sign(lab, "kube-proxy", "/CN=system:kube-proxy", client)


def _files(lab: Lab, number: int, name: str, addresses: Mapping[str, str]) -> dict[str, str]:
    server = control_plane.server(number)
    home = lab.certificates
    hosts = [f"{address} {who}\n" for who, address in sorted(addresses.items())]
    alias = nodes.REGISTRY_ALIAS.partition(":")[0]
    hosts.append(f"{network.control_plane_address(number)} {alias}\n")
    kubernetes = {
        "node": f"NAME={name}\nADDRESS={addresses[name]}\n",
        "ca.crt": (home / "ca.crt").read_text(),
        "kubelet.yaml": json.dumps(_KUBELET),
        "kubelet.crt": (home / f"{name}-server.crt").read_text(),
        "kubelet.key": (home / f"{name}-server.key").read_text(),
        "kubelet.kubeconfig": certificates.client_certificate_kubeconfig(lab, server, name),
        "kube-proxy.yaml": json.dumps(_PROXY),
        "kube-proxy.kubeconfig": certificates.client_certificate_kubeconfig(
            lab, server, "kube-proxy"
        ),
    }
    registries = {
        f"root/etc/containerd/certs.d/{where}/hosts.toml": f'server = "http://{where}"\n'
        for where in (nodes.REGISTRY_ALIAS, registry.location(number))
    }
    routes = [
        f"ip route replace {_pods_of(other)} via {address}\n"
        for other, address in sorted(addresses.items())
        if other.startswith("machine-") and other != name
    ]
    return {
        "root/etc/hosts": "127.0.0.1 localhost\n" + "".join(hosts),
        "root/etc/hostname": f"{name}\n",
        "root/etc/cni/net.d/10-lab.conflist": json.dumps(_cni(name)),
        "routes.sh": "".join(routes),
        **registries,
        **{f"root/etc/kubernetes/{file}": content for file, content in kubernetes.items()},
    }


def _pods_of(name: str) -> str:
    return f"10.244.{name.rpartition('-')[2]}.0/24"


def _cni(name: str) -> dict[str, object]:
    ranges = [[{"subnet": _pods_of(name)}]]
    routes = [{"dst": "0.0.0.0/0"}]
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
    }
    port_map = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "lab", "plugins": [bridge, port_map]}
