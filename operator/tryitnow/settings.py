"""Settings of the programs, read once from the environment and handed on.

Names are those that users of the guide know (``CONTAINER_MODE``, ``CRIU_ENABLED``,
``CHECKPOINT_PATH``). Nothing else in the package reads the environment.
"""

from __future__ import annotations

import ipaddress
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from tryitnow.api.duration import LONGEST, format_duration, parse_duration
from tryitnow.api.network import AllowedEgress, IPAddress
from tryitnow.api.node import Toleration
from tryitnow.api.quantity import parse_quantity
from tryitnow.api.security_context import CAPABILITY
from tryitnow.api.template import ResourceLimits

TRANSFER_AUDIENCE = "tryitnow-agent-transfer"
"""Audience of the tokens with which agents fetch archives from each other; a token for the
API server is no good there, and the other way round."""


MOST_BYTES = 1 << 50
"""1 PiB: no node has a larger disk, so a larger size is a slip."""


class InvalidSettingError(ValueError):
    """A setting has a value that cannot be used; the message names it and shows a good one."""


@dataclass(frozen=True, kw_only=True)
class PodmanSettings:
    """The connection to Podman."""

    socket: str
    """URL of the REST socket."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The administrator's bounds for what sandboxes reach."""

    allowed_egress: tuple[AllowedEgress, ...] = ()
    """What ``spec.network.egress`` of a Checkpoint may ask for."""

    dns_servers: tuple[IPAddress, ...] = ()
    """DNS servers that sandboxes may ask, and that the agent asks for names in egress. Without any,
    sandboxes ask nobody, and the agent asks those of its Pod."""


DEFAULT_LIMITS = '{"cpu": "4", "memory": "4Gi", "pids": 2048}'
"""More than one container of an application needs, and far less than a node has. That of pids is
Podman's own (containers.conf)."""

CAPABILITIES = "CHOWN,DAC_OVERRIDE,FOWNER,FSETID,KILL,NET_BIND_SERVICE,SETGID,SETUID,SYS_CHROOT"
"""Those that Podman gives by default (containers.conf), without SETFCAP and SETPCAP. Entrypoints
that begin as root and go on as another user (gosu, su-exec, chroot --userspec) need these."""


@dataclass(frozen=True, kw_only=True)
class ContainerSettings:
    """The administrator's bounds for each container of a sandbox."""

    default_limits: ResourceLimits = field(default_factory=ResourceLimits)
    """Limits of a container whose template sets none."""

    capabilities: tuple[str, ...] = tuple(CAPABILITIES.split(","))
    """Capabilities that a container has unless it drops them."""

    allowed_capabilities: tuple[str, ...] = ()
    """Capabilities that a container may add to them."""

    allow_privilege_escalation: bool = False
    """Whether a container may ask that its processes gain privileges."""

    allow_unenforced_limits: bool = False
    """Whether containers run without limits that the node's cgroups cannot hold."""


@dataclass(frozen=True, kw_only=True)
class ControllerSettings:
    """Settings of ``tryitnow controller``."""

    namespace: str
    """Namespace of the operator."""

    identity: str
    """Whom the Lease names while this process leads: its Pod. The same name after a restart of the
    container lets it go on at once, as the process before it has ended by then."""

    metrics_port: int
    """Port of /metrics, /healthz and /readyz, on all addresses of the Pod."""

    metrics_token_file: Path | None = None
    """Holds the token that a scrape must show; None means that none is needed."""

    transfer_port: int
    """Port of the nodes where agents serve archives: a URL with another port is not handed on."""

    builder_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that may build."""

    end_lost_after: timedelta | None = None
    """How long an agent may be silent before the demos of its node are deleted; None for ever."""

    agent_tolerations: tuple[Toleration, ...] = ()
    """Taints that the agents bear: they keep nodes for demos, and do not close them."""


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """Settings of ``tryitnow agent`` and, on a node, of ``tryitnow doctor``."""

    node_name: str
    node_address: str
    """Address of the node, where its demos are published."""

    public_host: str
    """Name or address in the URLs of the node's demos."""

    namespace: str
    agent_user: str
    """User name of the agents' ServiceAccount: the transfer server accepts no other."""

    agent_account: str
    """Namespace and name of that ServiceAccount, as ``namespace:name``."""

    podman: PodmanSettings
    criu_enabled: bool
    checkpoint_path: Path
    """Directory of the archives, 0700 root."""

    first_port: int
    last_port: int
    """Range of the ports that demos are published on, both ends included."""

    max_instances: int
    """Most instances (and builds) at once on this node."""

    namespace_share: int = 100
    """Most of the node's places that the demos of one namespace may take, in percent."""

    memory_reserve_bytes: int
    """Memory that must stay available; below it the node takes no new instance."""

    disk_reserve_bytes: int
    """Free disk that must stay; below it the node takes nothing: no demo, build, archive or warm
    sandbox."""

    max_checkpoint_bytes: int = MOST_BYTES
    """Most disk that one revision may take here: archive, unpacked files and layers."""

    orphan_grace: timedelta
    """Time that an object without an owner stays on the node before it is removed."""

    trash_retention: timedelta
    """How long removed demos stay in the trash directory."""

    probe_interval: timedelta
    """Pause between two probes of a demo that is ready."""

    doctor_timeout: timedelta | None
    """How long doctor waits for a program; longer for Podman's answer and for ``criu check``. None:
    5 s at first, longer where the node is busy, and with each examination that got no answer."""

    transfer_port: int
    transfer_token_file: Path
    metrics_port: int
    """Port of /metrics, /healthz and /readyz, on the node's address."""

    metrics_token_file: Path | None = None
    """Holds the token that a scrape must show; None means that none is needed."""

    scrub_interval: timedelta
    """How often every archive's digest is checked, used or not."""

    network: NetworkSettings = NetworkSettings()
    containers: ContainerSettings = ContainerSettings()

    wipe: bool = False
    """Whether archives, unpacked files and the trash are overwritten when they are removed."""

    allowed_registries: tuple[str, ...] = ()
    """Registries that images may be of, some with the beginning of a path; without any, all."""

    @property
    def data_path(self) -> Path:
        """Directory of the unpacked archives, beside the archives' own."""
        return self.checkpoint_path.parent / "data"

    @property
    def volumes_path(self) -> Path:
        """Directory of the volumes of pods, beside the archives."""
        return self.checkpoint_path.parent / "volumes"

    @property
    def revisions_path(self) -> Path:
        """Directory with the names of the revisions that this node has approved."""
        return self.checkpoint_path.parent / "revisions"

    @property
    def trash_path(self) -> Path:
        """Directory of removed files that are kept for a while, beside the archives' own."""
        return self.checkpoint_path.parent / "trash"

    def host_at(self, port: int) -> str:
        """Return host and port of what is published there, as they stand in its URL."""
        return host_and_port(self.public_host, port)

    @property
    def capacity(self) -> int:
        """Number of instances the node takes."""
        return min(self.max_instances, self.last_port - self.first_port + 1)

    @property
    def namespace_capacity(self) -> int:
        """Number of instances of one namespace that the node takes: one at least."""
        return max(1, self.capacity * self.namespace_share // 100)


def host_and_port(host: str, port: int) -> str:
    """Return both as they stand in a URL (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def transfer_url(address: str, port: int) -> str:
    """Return where the agent at an address of its node serves archives."""
    return f"https://{host_and_port(address, port)}/archives"


def _flag(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = env.get(name, str(default)).strip().lower()
    if text in {"true", "1", "yes", "on"}:
        return True
    if text in {"false", "0", "no", "off"}:
        return False
    msg = f"{name}={text!r} is neither true nor false; set it to true or false"
    raise InvalidSettingError(msg)


def _number(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = env.get(name, str(default))
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        msg = f"{name}={text!r} is no number from {low} to {high}; the default is {default}"
        raise InvalidSettingError(msg)
    return value


def _required(env: Mapping[str, str], name: str, what: str) -> str:
    value = env.get(name, "")
    if not value:
        msg = f"{name} is not set; it must hold {what} (the chart sets it)"
        raise InvalidSettingError(msg)
    return value


_DNS_NAME = re.compile(r"[0-9A-Za-z]([0-9A-Za-z.-]*[0-9A-Za-z])?")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _host(env: Mapping[str, str], name: str, default: str) -> str:
    host = env.get(name) or default
    if _DNS_NAME.fullmatch(host) or _is_address(host):
        return host
    msg = f"{name}={host!r} is no host; give a name or an address, such as node-1.demos.example.com"
    raise InvalidSettingError(msg)


def _ports(env: Mapping[str, str]) -> tuple[int, int]:
    # Below the range of NodePorts (30000 to 32767) and of Linux' ephemeral ports (from 32768).
    text = env.get("PORT_RANGE", "20000-20999")
    if found := re.fullmatch(r"([0-9]{4,5})-([0-9]{4,5})", text):
        first, last = int(found[1]), int(found[2])
        if 1024 <= first <= last <= 65535:
            return first, last
    msg = f"PORT_RANGE={text!r} is no range of ports from 1024 to 65535, such as 20000-20999"
    raise InvalidSettingError(msg)


def _directory(env: Mapping[str, str]) -> Path:
    path = Path(env.get("CHECKPOINT_PATH", "/var/lib/try-it-now/checkpoints"))
    if not path.is_absolute() or path == Path("/"):
        msg = (
            f"CHECKPOINT_PATH={str(path)!r} is not a directory of its own; give an absolute path "
            "such as /var/lib/try-it-now/checkpoints"
        )
        raise InvalidSettingError(msg)
    return path


def _duration(
    env: Mapping[str, str],
    name: str,
    default: str,
    *,
    low: timedelta = timedelta(seconds=1),
    high: timedelta = LONGEST,
) -> timedelta:
    text = env.get(name, default)
    try:
        value = parse_duration(text)
    except ValueError as error:
        msg = f"{name}: {error}; the default is {default}"
        raise InvalidSettingError(msg) from error
    if value < low:
        msg = f"{name}={text!r} is too short; give at least {format_duration(low)}, "
    elif value > high:
        msg = f"{name}={text!r} is too long; give at most {format_duration(high)}, "
    else:
        return value
    raise InvalidSettingError(f"{msg}the default is {default}")


def _bytes(env: Mapping[str, str], name: str, default: str) -> int:
    text = env.get(name, default)
    try:
        value = parse_quantity(text)
    except ValueError as error:
        msg = f"{name}: {error}; the default is {default}"
        raise InvalidSettingError(msg) from error
    if value != int(value) or value > MOST_BYTES:
        msg = f"{name}={text!r} is no size from 0 to 1Pi; write it like {default} or 500M"
        raise InvalidSettingError(msg)
    return int(value)


_TOLERATIONS = TypeAdapter(tuple[Toleration, ...])
_LABELS = TypeAdapter(dict[str, str])
_ALLOWED_EGRESS = TypeAdapter(tuple[AllowedEgress, ...])
_LIMITS = TypeAdapter(ResourceLimits)

T = TypeVar("T")


def _in_json(name: str, text: str, adapter: TypeAdapter[T], fault: str, remedy: str) -> T:
    """Read a setting in JSON; ``{where}`` of ``fault`` says what in it is wrong."""
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        found = error.errors()[0]
        where = f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
        msg = f"{name}={text!r} {fault.format(where=where)}; {remedy}"
        raise InvalidSettingError(msg) from error


def _tolerations(env: Mapping[str, str], name: str) -> tuple[Toleration, ...]:
    return _in_json(
        name,
        env.get(name) or "[]",
        _TOLERATIONS,
        "is no list of tolerations",
        'write it as the tolerations of a Pod in JSON, such as [{"key": "demos", '
        '"operator": "Exists"}]',
    )


def _labels(env: Mapping[str, str], name: str) -> dict[str, str]:
    return _in_json(
        name,
        env.get(name) or "{}",
        _LABELS,
        "names no labels",
        'write it as the nodeSelector of a Pod in JSON, such as {"example.com/builds": "true"}',
    )


def _allowed_egress(env: Mapping[str, str], name: str) -> tuple[AllowedEgress, ...]:
    return _in_json(
        name,
        env.get(name) or "[]",
        _ALLOWED_EGRESS,
        "is no list of hosts and ranges of addresses ({where})",
        'write it in JSON, such as [{"cidr": "192.0.2.0/24", "ports": [5432]}, '
        '{"host": "*.example.com"}]',
    )


def _limits(env: Mapping[str, str], name: str) -> ResourceLimits:
    return _in_json(
        name,
        env.get(name, DEFAULT_LIMITS),
        _LIMITS,
        "are no limits ({where})",
        f"write them as those of a container in JSON, such as {DEFAULT_LIMITS}",
    )


def _capabilities(env: Mapping[str, str], name: str, default: str) -> tuple[str, ...]:
    text = env.get(name, default)
    words = tuple(text.replace(",", " ").split())
    if all(re.fullmatch(CAPABILITY, word) and not word.startswith("CAP_") for word in words):
        return words
    msg = (
        f"{name}={text!r} are no capabilities; write them as in a Pod, without CAP_ and with "
        f"commas between them: the default is {default}"
    )
    raise InvalidSettingError(msg)


def _addresses(env: Mapping[str, str], name: str) -> tuple[IPAddress, ...]:
    words = (env.get(name) or "").replace(",", " ").split()
    try:
        return tuple(ipaddress.ip_address(word) for word in words)
    except ValueError as error:
        msg = f"{name}: {error}; write addresses with commas between them, such as 192.0.2.53"
        raise InvalidSettingError(msg) from error


_REGISTRY = re.compile(
    r"(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
)


def _registries(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    words = (env.get(name) or "").replace(",", " ").split()
    for word in words:
        if not _REGISTRY.fullmatch(word):
            msg = (
                f"{name}: {word!r} is no registry; write its host, with a port or the beginning "
                "of a path where wanted, such as registry.example.com, *.example.com:5000 or "
                "docker.io/library"
            )
            raise InvalidSettingError(msg)
    return tuple(words)


def _metrics_token_file(env: Mapping[str, str]) -> Path | None:
    text = env.get("METRICS_TOKEN_FILE")
    return Path(text) if text else None


_TRANSFER_PORT = 9443


def controller_settings(env: Mapping[str, str] = os.environ) -> ControllerSettings:
    """Read the controller's settings.

    Raises:
        InvalidSettingError: a value cannot be used.

    """
    return ControllerSettings(
        namespace=env.get("POD_NAMESPACE", "tryitnow-system"),
        # Outside of a Pod, several may run on one machine.
        identity=env.get("POD_NAME") or f"{os.uname().nodename}_{uuid.uuid4()}",
        metrics_port=_number(env, "METRICS_PORT", 8080, 1, 65535),
        metrics_token_file=_metrics_token_file(env),
        transfer_port=_number(env, "TRANSFER_PORT", _TRANSFER_PORT, 1, 65535),
        builder_selector=_labels(env, "BUILDER_SELECTOR"),
        agent_tolerations=_tolerations(env, "AGENT_TOLERATIONS"),
        end_lost_after=(
            _duration(env, "END_LOST_DEMOS_AFTER", "1h", low=timedelta(minutes=5))
            if env.get("END_LOST_DEMOS_AFTER")
            else None
        ),
    )


def agent_settings(env: Mapping[str, str] = os.environ) -> AgentSettings:
    """Read the agent's settings.

    Raises:
        InvalidSettingError: a value is missing or cannot be used.

    """
    mode = env.get("CONTAINER_MODE", "podman")
    if mode != "podman":
        msg = f"CONTAINER_MODE={mode!r} is not supported; the only mode is podman"
        raise InvalidSettingError(msg)
    namespace = env.get("POD_NAMESPACE", "tryitnow-system")
    account = env.get("AGENT_SERVICE_ACCOUNT", "tryitnow-agent")
    first_port, last_port = _ports(env)
    address = _required(env, "NODE_ADDRESS", "the node's address")
    return AgentSettings(
        node_name=_required(env, "NODE_NAME", "the name of the node"),
        node_address=address,
        public_host=_host(env, "PUBLIC_HOST", address),
        namespace=namespace,
        agent_user=f"system:serviceaccount:{namespace}:{account}",
        agent_account=f"{namespace}:{account}",
        podman=podman_settings(env),
        criu_enabled=_flag(env, "CRIU_ENABLED", default=True),
        checkpoint_path=_directory(env),
        first_port=first_port,
        last_port=last_port,
        # The kubelet's default for pods per node.
        max_instances=_number(env, "MAX_INSTANCES", 110, 1, 10000),
        namespace_share=_number(env, "NAMESPACE_SHARE", 100, 1, 100),
        memory_reserve_bytes=_number(env, "MEMORY_RESERVE_MIB", 512, 0, 1 << 30) << 20,
        disk_reserve_bytes=_bytes(env, "DISK_RESERVE", "2Gi"),
        max_checkpoint_bytes=_bytes(env, "MAX_CHECKPOINT_SIZE", "100Gi"),
        orphan_grace=_duration(env, "ORPHAN_GRACE", "10m", high=timedelta(days=30)),
        trash_retention=_duration(env, "TRASH_RETENTION", "24h", high=timedelta(days=365)),
        # Design: no fault leaves Ready True for more than a minute, and it takes three probes.
        probe_interval=_duration(env, "PROBE_INTERVAL", "10s", high=timedelta(seconds=20)),
        doctor_timeout=(
            _duration(env, "DOCTOR_TIMEOUT", "5s", high=timedelta(minutes=10))
            if env.get("DOCTOR_TIMEOUT")
            else None
        ),
        transfer_port=_number(env, "TRANSFER_PORT", _TRANSFER_PORT, 1, 65535),
        transfer_token_file=Path(
            env.get("TRANSFER_TOKEN_FILE", "/var/run/secrets/tryitnow/transfer-token")
        ),
        # Beside the transfer port: agents share their node's ports with whatever runs there.
        metrics_port=_number(env, "METRICS_PORT", 9444, 1, 65535),
        metrics_token_file=_metrics_token_file(env),
        scrub_interval=_duration(env, "SCRUB_INTERVAL", "10m"),
        network=NetworkSettings(
            allowed_egress=_allowed_egress(env, "ALLOWED_EGRESS"),
            dns_servers=_addresses(env, "DNS_SERVERS"),
        ),
        containers=ContainerSettings(
            default_limits=_limits(env, "DEFAULT_LIMITS"),
            capabilities=_capabilities(env, "CAPABILITIES", CAPABILITIES),
            allowed_capabilities=_capabilities(env, "ALLOWED_CAPABILITIES", "SETFCAP,SETPCAP"),
            allow_privilege_escalation=_flag(env, "ALLOW_PRIVILEGE_ESCALATION", default=True),
            allow_unenforced_limits=_flag(env, "ALLOW_UNENFORCED_LIMITS", default=False),
        ),
        wipe=_flag(env, "WIPE", default=False),
        allowed_registries=_registries(env, "ALLOWED_REGISTRIES"),
    )


def podman_settings(env: Mapping[str, str] = os.environ) -> PodmanSettings:
    """Read how to reach Podman.

    Raises:
        InvalidSettingError: the socket's URL cannot be used.

    """
    socket = env.get("PODMAN_SOCKET", "unix:///run/podman/podman.sock")
    if not socket.startswith("unix:///"):
        msg = (
            f"PODMAN_SOCKET={socket!r} is no URL of a Unix socket; "
            "write it like unix:///run/podman/podman.sock"
        )
        raise InvalidSettingError(msg)
    return PodmanSettings(socket=socket)
