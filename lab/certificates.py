"""The lab's certificate authority and what it signs, made with the openssl program."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from lab.shell import run
from lab.state import Lab

_DAYS = "365"

# Python verifies strictly since 3.13 (VERIFY_X509_STRICT): RFC 5280 asks for all of these.
_LEAF_EXTENSIONS = (
    "basicConstraints=CA:FALSE\n"
    "keyUsage=critical,digitalSignature\n"
    "subjectKeyIdentifier=hash\n"
    "authorityKeyIdentifier=keyid\n"
)


def make(lab: Lab, address: str) -> None:
    """Make the authority, the servers' and the administrators' certificates."""
    home = lab.certificates
    home.mkdir(mode=0o700, parents=True)
    _key(home / "ca.key")
    run(
        "openssl", "req", "-x509", "-new", "-key", home / "ca.key", "-out", home / "ca.crt",
        "-days", _DAYS, "-subj", f"/CN=lab {lab.name}",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    names = (
        f"IP:{address},IP:127.0.0.1,DNS:localhost,"
        # By this one Pods on a machine reach it: the first address of the Services.
        "IP:10.96.0.1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    )
    _sign(home, "server", "/CN=kube-apiserver", f"subjectAltName={names}")
    _sign(home, "kubelet", "/CN=kubelet", f"subjectAltName=IP:{address}")
    client = "extendedKeyUsage=clientAuth"
    who = "/O=system:masters/CN=kube-apiserver-kubelet-client"
    _sign(home, "kubelet-client", who, client)
    _sign(home, "admin", "/O=system:masters/CN=lab-admin", client)
    # Its own role only lets it make an account per controller, which takes time and shows nothing.
    _sign(home, "controller-manager", "/O=system:masters/CN=kube-controller-manager", client)
    _sign(home, "scheduler", "/CN=system:kube-scheduler", client)
    _key(home / "service-accounts.key")
    run(
        "openssl", "pkey", "-in", home / "service-accounts.key", "-pubout",
        "-out", home / "service-accounts.pub",
    )  # fmt: skip


def sign(lab: Lab, name: str, subject: str, extension: str) -> None:
    """Make one more key, and the certificate of it."""
    _sign(lab.certificates, name, subject, extension)


def client_certificate_kubeconfig(lab: Lab, server: str, who: str) -> str:
    """A kubeconfig that identifies by one of the certificates."""
    home = lab.certificates
    user = {
        "client-certificate-data": _base64(home / f"{who}.crt"),
        "client-key-data": _base64(home / f"{who}.key"),
    }
    return _kubeconfig(lab, server, user)


def token_kubeconfig(lab: Lab, server: str, token: str, namespace: str) -> str:
    """A kubeconfig that identifies by a service account's token; it expects ca.crt beside it.

    Clients write a certificate that is inside of it to a file first, and a Pod whose root file
    system is read-only has no place for one.
    """
    authority = {"certificate-authority": "ca.crt"}
    return _kubeconfig(lab, server, {"token": token}, namespace, authority)


def write_secret(path: Path, content: str) -> None:
    """Write a file that only root can read, whole or not at all."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.touch(mode=0o600)
    unfinished.write_text(content)
    unfinished.rename(path)


def _kubeconfig(
    lab: Lab,
    server: str,
    user: dict[str, str],
    namespace: str = "default",
    authority: dict[str, str] | None = None,
) -> str:
    """JSON is YAML, so the standard library can write it."""
    name = f"lab-{lab.name}"
    whole = {"certificate-authority-data": _base64(lab.certificates / "ca.crt")}
    cluster = {"server": server, **(authority or whole)}
    context = {"cluster": name, "user": name, "namespace": namespace}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": context}],
            "current-context": name,
        },
        indent=2,
    )


def _key(path: Path) -> None:
    run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-out", path)  # fmt: skip
    path.chmod(0o600)


def _sign(home: Path, name: str, subject: str, extension: str) -> None:
    _key(home / f"{name}.key")
    request = run("openssl", "req", "-new", "-key", home / f"{name}.key", "-subj", subject)
    extensions = home / f"{name}.ext"
    extensions.write_text(_LEAF_EXTENSIONS + extension + "\n")
    run(
        "openssl", "x509", "-req", "-in", "/dev/stdin", "-CA", home / "ca.crt",
        "-CAkey", home / "ca.key", "-CAcreateserial", "-days", _DAYS,
        "-extfile", extensions, "-out", home / f"{name}.crt", stdin=request,
    )  # fmt: skip


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
