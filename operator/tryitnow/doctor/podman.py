"""The facts of Podman's service about itself."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from datetime import timedelta

import requests
import urllib3
from podman.api import APIClient
from podman.errors import PodmanError

_DEFAULT_NETWORK = "podman"


@dataclass(frozen=True, kw_only=True)
class PodmanFacts:
    """The facts of Podman's service about itself."""

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

    container_ids: frozenset[str] | None
    """IDs of these containers; None where it could not list them."""

    selinux: bool
    """It labels its containers for SELinux."""

    networks: tuple[ipaddress.IPv4Network, ...]
    """Networks that containers get their addresses from; empty where it does not tell."""

    bridge: str
    """Interface of the node that these networks are behind."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Podman's answer, or the reason why there is none."""

    facts: PodmanFacts | None = None
    problem: str = ""
    """The reason why there are no facts."""

    timed_out: bool = False
    """It listens, and did not answer in time: it is busy."""


def ask_podman(url: str, limit: timedelta) -> Answer:
    """Ask the service about itself. Never raises."""
    seconds = limit.total_seconds()
    try:
        problem = _socket_problem(url, seconds)
        if problem:
            return Answer(problem=problem)
        with APIClient(base_url=url) as api:
            answer = api.get("/info", timeout=seconds)
            answer.raise_for_status()
            facts = _facts(answer.json(), _network(api, seconds), _containers(api, seconds))
    except (requests.RequestException, PodmanError, OSError, ValueError) as error:
        if _is_timeout(error):
            return Answer(problem=f"Podman did not answer within {seconds:g} s", timed_out=True)
        return Answer(problem=f"Podman does not answer at {url}: {error}")
    return Answer(facts=facts)


def list_containers(url: str, limit: timedelta) -> frozenset[str] | None:
    """Return the IDs of all containers; None where the service does not tell."""
    try:
        with APIClient(base_url=url) as api:
            return _containers(api, limit.total_seconds())
    except (requests.RequestException, PodmanError, OSError, ValueError):
        return None


_SLOW = (
    requests.Timeout,
    urllib3.exceptions.TimeoutError,
    TimeoutError,
    BlockingIOError,  # connect(2): too many wait for the service to accept them
)


def _is_timeout(error: BaseException) -> bool:
    # podman-py wraps what requests raises, and requests what urllib3 raises while it reads on.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _SLOW):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _facts(info: object, network: object, container_ids: frozenset[str] | None) -> PodmanFacts:
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
        container_ids=container_ids,
        selinux=_field(info, "host", "security", "selinuxEnabled") is True,
        networks=_subnets(network),
        bridge=str(_field(network, "network_interface")),
    )


def _network(api: APIClient, seconds: float) -> object:
    answer = api.get(f"/networks/{_DEFAULT_NETWORK}/json", timeout=seconds)
    # A Podman of the node's own may have another one by default.
    return answer.json() if answer.status_code == requests.codes.ok else {}


def _containers(api: APIClient, seconds: float) -> frozenset[str] | None:
    answer = api.get("/containers/json", params={"all": True}, timeout=seconds)
    # It fails when a container goes away while they are listed.
    if answer.status_code != requests.codes.ok:
        return None
    listed = answer.json()
    if not isinstance(listed, list):
        return None
    return frozenset(str(_field(container, "Id")) for container in listed)


def _subnets(network: object) -> tuple[ipaddress.IPv4Network, ...]:
    listed = _field(network, "subnets")
    found = []
    for entry in listed if isinstance(listed, list) else ():
        try:
            found.append(ipaddress.IPv4Network(str(_field(entry, "subnet"))))
        except ValueError:  # IPv6
            continue
    return tuple(found)


def _socket_problem(url: str, seconds: float) -> str:
    """Say why nobody can be reached at a UNIX socket: podman-py's own error does not tell.

    Raises:
        TimeoutError, BlockingIOError: somebody listens, and accepts nobody now.

    """
    path = url.removeprefix("unix://")
    if path == url:
        return ""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(seconds)
            probe.connect(path)
    except FileNotFoundError:
        return f"there is no socket at {path}"
    except PermissionError:
        return f"no permission to use the socket {path}"
    except ConnectionRefusedError:
        return f"no process listens at the socket {path}"
    except (TimeoutError, BlockingIOError):
        raise
    except OSError as error:
        return f"the socket {path} cannot be used: {error}"
    return ""


def _field(answer: object, *keys: str) -> object:
    for key in keys:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return "" if answer is None else answer
