"""What Podman's service says about itself."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

import requests
from podman.api import APIClient
from podman.errors import PodmanError

_SECONDS = 10.0
"""For Podman's /info: 0.1 s measured; it waits while a pull holds the lock of the storage."""

_DEFAULT_NETWORK = "podman"


@dataclass(frozen=True, kw_only=True)
class PodmanFacts:
    """What Podman's service says about itself."""

    version: str
    rootless: bool
    runtime_name: str
    runtime_path: str
    runtime_version: str
    """All that the OCI runtime prints as its version, features included."""

    storage_driver: str
    storage_path: str
    """Where it keeps images and containers, as Podman sees it; empty where it does not tell."""

    free_locks: int | None
    """How many more containers, pods and volumes it can have; None before Podman 5."""

    containers: int
    """How many containers it has, running or not, those that hold a pod's namespaces included."""

    selinux: bool
    """It labels its containers for SELinux."""

    networks: tuple[ipaddress.IPv4Network, ...]
    """Networks that containers get their addresses from; empty where it does not tell."""

    bridge: str
    """Interface of the node that these networks are behind."""


def ask_podman(url: str) -> tuple[PodmanFacts | None, str]:
    """Ask the service about itself; returns why there is no answer, where there is none."""
    problem = _socket_problem(url)
    if problem:
        return None, problem
    try:
        with APIClient(base_url=url) as api:
            answer = api.get("/info", timeout=_SECONDS)
            answer.raise_for_status()
            info = answer.json()
            network = _network(api)
    except (requests.RequestException, PodmanError, OSError, ValueError) as error:
        return None, f"Podman does not answer at {url}: {error}"
    locks = _field(info, "host", "freeLocks")
    containers = _field(info, "store", "containerStore", "number")
    return PodmanFacts(
        version=str(_field(info, "version", "Version")),
        rootless=bool(_field(info, "host", "security", "rootless")),
        runtime_name=str(_field(info, "host", "ociRuntime", "name")),
        runtime_path=str(_field(info, "host", "ociRuntime", "path")),
        runtime_version=str(_field(info, "host", "ociRuntime", "version")),
        storage_driver=str(_field(info, "store", "graphDriverName")),
        storage_path=str(_field(info, "store", "graphRoot")),
        free_locks=locks if isinstance(locks, int) else None,
        containers=containers if isinstance(containers, int) else 0,
        selinux=_field(info, "host", "security", "selinuxEnabled") is True,
        networks=_subnets(network),
        bridge=str(_field(network, "network_interface")),
    ), ""


def _network(api: APIClient) -> object:
    answer = api.get(f"/networks/{_DEFAULT_NETWORK}/json", timeout=_SECONDS)
    # A Podman of the node's own may have another one by default.
    return answer.json() if answer.status_code == requests.codes.ok else {}


def _subnets(network: object) -> tuple[ipaddress.IPv4Network, ...]:
    listed = _field(network, "subnets")
    found = []
    for entry in listed if isinstance(listed, list) else ():
        try:
            found.append(ipaddress.IPv4Network(str(_field(entry, "subnet"))))
        except ValueError:  # IPv6
            continue
    return tuple(found)


def _socket_problem(url: str) -> str:
    """Say why nobody can be reached at a UNIX socket: podman-py's own error does not tell."""
    path = url.removeprefix("unix://")
    if path == url:
        return ""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_SECONDS)
            probe.connect(path)
    except FileNotFoundError:
        return f"there is no socket at {path}"
    except PermissionError:
        return f"no permission to use the socket {path}"
    except ConnectionRefusedError:
        return f"nobody listens at the socket {path}"
    except OSError as error:
        return f"the socket {path} cannot be used: {error}"
    return ""


def _field(answer: object, *keys: str) -> object:
    for key in keys:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return "" if answer is None else answer
