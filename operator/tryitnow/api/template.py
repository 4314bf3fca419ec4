"""The containers of each demo, their start order and volumes, with a Pod's field names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, JsonValue

from tryitnow.api.duration import StartTimeout
from tryitnow.api.meta import NO_SPACE, Model
from tryitnow.api.quantity import Bytes, Quantity
from tryitnow.api.security_context import SecurityContext

LIST_MAP_BY_NAME = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_FILE_NAME = r"^[-._a-zA-Z0-9]+$"

MAX_CONTAINERS = 8
MAX_PORTS = 16
MAX_VOLUMES = 16
"""Bounds that keep the rules over all pairs within what the API server lets a rule cost."""

Argument = Annotated[str, Field(max_length=32768)]
"""The kernel takes 128 KiB (MAX_ARG_STRLEN); all of them are stored in one object."""

DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=_DNS_LABEL)]


class Scheme(StrEnum):
    """How a request is sent."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"


class KeySelector(Model):
    """A key of a Secret in the namespace of the object."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the Secret."""

    key: Annotated[str, Field(min_length=1, max_length=253, pattern=_FILE_NAME)]
    """Key to take the value from."""

    optional: bool = False
    """Whether the Secret or the key may be missing; the variable is then not set. Defaults to
    false."""


class EnvVarSource(Model):
    """The source of a variable's value."""

    secret_key_ref: KeySelector
    """A key of a Secret in the same namespace, read when the container is made."""


class EnvVar(Model):
    """One environment variable of a container."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "!has(self.valueFrom) || !has(self.value) || self.value == ''",
                    "message": "may have a value or a valueFrom, not both",
                    "fieldPath": ".valueFrom",
                }
            ]
        }
    )

    name: Annotated[
        str, Field(min_length=1, max_length=256, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")
    ]
    """Name of the variable."""

    value: Annotated[str, Field(max_length=32768)] = ""
    """Value of the variable. It becomes part of the checkpoint: put secrets into a Secret and name
    it in valueFrom."""

    value_from: EnvVarSource | None = None
    """Takes the value from a Secret. The value that the application reads becomes part of the
    checkpoint, with its memory."""


class ContainerPort(Model):
    """A TCP port on which the application listens; each demo gets a port of the node for it."""

    name: Annotated[str, Field(max_length=15, pattern=_DNS_LABEL)] | None = None
    """Name of the port, for people."""

    container_port: Annotated[int, Field(ge=1, le=65535)]
    """Port inside the container, 1 to 65535."""


class ResourceLimits(Model):
    """Most that a container may use, however it was started."""

    cpu: Quantity | None = None
    """Processor time, in cores: 2, 0.5 or 500m."""

    memory: Bytes | None = None
    """Memory, in bytes: 512Mi or 2Gi. The kernel kills a process that needs more."""

    pids: Annotated[int, Field(ge=1, le=4194304)] | None = None
    """Number of processes and threads."""


class Resources(Model):
    """Limits of a container's resources."""

    limits: ResourceLimits = ResourceLimits()
    """Most that it may use. Defaults to agent.containers.defaultLimits of the chart. A node that
    cannot hold a limit does not start the container, unless the administrator allows that."""


class VolumeMount(Model):
    """The path of a volume inside a container."""

    name: DnsLabel
    """Name of the volume, one of spec.template.volumes."""

    mount_path: Annotated[str, Field(min_length=2, max_length=1024, pattern=r"^/[^:]+$")]
    """Path inside the container."""

    sub_path: (
        Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^/:][^:]*$")] | None
    ) = None
    """Path within the volume to mount instead of its root."""

    read_only: bool = False
    """Whether the container may only read it. ConfigMaps and Secrets always are. Defaults to
    false."""


class Exec(Model):
    """A command to run inside a container, without a shell around it."""

    command: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=64)]
    """The command and its arguments; exit status 0 means success."""


class ProbeHTTPGet(Model):
    """A request that a container answers with a status from 200 to 399 once it has started."""

    path: Annotated[str, Field(max_length=2048, pattern=r"^/\S*$")] = "/"
    """Path to request. Defaults to /."""

    port: Annotated[int, Field(ge=1, le=65535)]
    """Port that the container listens on."""

    scheme: Scheme = Scheme.HTTP
    """HTTP or HTTPS. HTTPS accepts any certificate. Defaults to HTTP."""


class ProbeTCPSocket(Model):
    """A port that accepts a connection once the container has started."""

    port: Annotated[int, Field(ge=1, le=65535)]
    """Port that the container listens on."""


class StartupProbe(Model):
    """The probe that decides whether a container has started; it has one of three forms."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "[has(self.exec), has(self.httpGet), has(self.tcpSocket)]"
                    ".filter(x, x).size() == 1",
                    "message": "must have exactly one of exec, httpGet and tcpSocket",
                }
            ]
        }
    )

    exec: Exec | None = None
    """A command that succeeds."""

    http_get: ProbeHTTPGet | None = None
    """A request that is answered."""

    tcp_socket: ProbeTCPSocket | None = None
    """A port that accepts a connection."""

    timeout: StartTimeout = timedelta(minutes=2)
    """Time that a cold start, or a start after a crash, waits for it, at most 1h. Defaults to
    2m."""


_WRITE_IT_AS = (
    "; push it to a registry, and write it as registry.example.com/name:tag or, for Docker Hub, as "
    "name:tag"
)
_IMAGE_OF_A_REGISTRY: list[JsonValue] = [
    {
        "rule": "!self.matches('^(sha256:)?[0-9a-f]{64}$')",
        "message": f"must be the name of an image: an ID means an image of one node{_WRITE_IT_AS}",
    },
    {
        "rule": "!self.startsWith('localhost/')",
        "message": f"must be an image of a registry: localhost/ is one node only{_WRITE_IT_AS}",
    },
    {
        "rule": "!self.matches('^[a-z][a-z0-9-]*:/')",
        "message": f"must be the name of an image, without docker:// or the like{_WRITE_IT_AS}",
    },
]
"""Or a Checkpoint started images of other people. ``podman.references`` has the whole grammar."""


class Container(Model):
    """A container to start and checkpoint, with the field names of a Pod's container."""

    name: DnsLabel
    """Name of the container, a DNS label."""

    image: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            pattern=f"^{NO_SPACE}+$",
            json_schema_extra={"x-kubernetes-validations": _IMAGE_OF_A_REGISTRY},
        ),
    ]
    """Image of a registry to run: registry.example.com/name:tag, with @sha256:… for one digest, or
    as in a Pod name:tag for Docker Hub. The first build asks the registry for it, with the
    credentials of imagePullSecrets, and pins it to its digest. Restores and cold starts of that
    revision use this digest."""

    command: Annotated[tuple[Argument, ...], Field(max_length=64)] = ()
    """Replaces the image's entrypoint."""

    args: Annotated[tuple[Argument, ...], Field(max_length=64)] = ()
    """Arguments of the entrypoint; replaces the image's command."""

    env: Annotated[
        tuple[EnvVar, ...], Field(max_length=256, json_schema_extra=LIST_MAP_BY_NAME)
    ] = ()
    """Environment variables. They become part of the checkpoint."""

    ports: Annotated[
        tuple[ContainerPort, ...],
        Field(
            max_length=MAX_PORTS,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["containerPort"],
            },
        ),
    ] = ()
    """TCP ports of the application. Each demo gets a port of its node for each of them."""

    volume_mounts: Annotated[
        tuple[VolumeMount, ...],
        Field(
            max_length=MAX_VOLUMES,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["mountPath"],
            },
        ),
    ] = ()
    """Volumes that the container sees."""

    startup_probe: StartupProbe | None = None
    """The probe that decides whether the container has started. The containers after it wait for
    that. spec.readiness decides whether the whole application is ready."""

    resources: Resources = Resources()
    """Limits of the container's resources."""

    security_context: SecurityContext = SecurityContext()
    """Rights of the container's processes, within what the administrator allows."""


class LocalReference(Model):
    """An object of the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the object."""


class RestartPolicy(StrEnum):
    """Whether an init container stays."""

    ALWAYS = "Always"


class InitContainer(Container):
    """A container that starts before the others, as in a Pod."""

    restart_policy: RestartPolicy | None = None
    """Always makes it a sidecar: it runs on, is checkpointed and restored with the others, and the
    next container starts when its startupProbe succeeds. Without it, the container runs to its end
    before the next one starts."""

    @property
    def is_sidecar(self) -> bool:
        """Whether it runs on beside the others."""
        return self.restart_policy is RestartPolicy.ALWAYS


class Medium(StrEnum):
    """The medium of a demo's own directory."""

    DISK = ""
    MEMORY = "Memory"


class EmptyDir(Model):
    """A directory that is empty at a cold start, belongs to one demo, and is part of the
    checkpoint."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "!has(self.sizeLimit) || (has(self.medium) && self.medium == 'Memory')",
                    "message": "needs medium: Memory; the size of directories on the disk is not"
                    " limited",
                    "fieldPath": ".sizeLimit",
                }
            ]
        }
    )

    medium: Medium = Medium.DISK
    """Memory makes it a tmpfs, as a large /dev/shm needs one. Its content counts as memory of the
    demo, and a reboot of the node empties it. Defaults to the node's disk."""

    size_limit: Bytes | None = None
    """Most that it holds, with medium: Memory. Defaults to half of the node's memory, as the
    kernel's tmpfs does."""


class KeyToPath(Model):
    """One key as one file."""

    key: Annotated[str, Field(min_length=1, max_length=253, pattern=_FILE_NAME)]
    """Key whose value is written."""

    path: Annotated[
        str, Field(min_length=1, max_length=253, pattern=r"^[-_a-zA-Z0-9][-._a-zA-Z0-9]*$")
    ]
    """Name of the file."""


_Items = Annotated[
    tuple[KeyToPath, ...],
    Field(
        max_length=64,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["key"],
        },
    ),
]


class ConfigMapVolume(Model):
    """The keys of a ConfigMap in the same namespace, as read-only files."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the ConfigMap."""

    items: _Items = ()
    """Keys to write, and their file names. Defaults to all keys by their own names."""

    optional: bool = False
    """Whether the ConfigMap may be missing. Defaults to false."""


class SecretVolume(Model):
    """The keys of a Secret in the same namespace, as read-only files."""

    secret_name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the Secret."""

    items: _Items = ()
    """Keys to write, and their file names. Defaults to all keys by their own names."""

    optional: bool = False
    """Whether the Secret may be missing. Defaults to false."""


class Volume(Model):
    """A directory that containers of one demo share."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "[has(self.emptyDir), has(self.configMap), has(self.secret)]"
                    ".filter(x, x).size() == 1",
                    "message": "must have exactly one of emptyDir, configMap and secret",
                }
            ]
        }
    )

    name: DnsLabel
    """Name of the volume."""

    empty_dir: EmptyDir | None = None
    """A directory of the demo's own."""

    config_map: ConfigMapVolume | None = None
    """Files from a ConfigMap, as they are when the demo's sandbox is made."""

    secret: SecretVolume | None = None
    """Files from a Secret, as they are when the demo's sandbox is made."""


def _each_container(rule: str) -> str:
    """A rule about a container ``c``, over init containers as well."""
    return (
        f"self.containers.all(c, {rule}) && "
        f"(!has(self.initContainers) || self.initContainers.all(c, {rule}))"
    )


_OWN_PORTS = (
    "(!has(c.ports) || (self.containers.all(o, o.name == c.name || !has(o.ports)"
    " || o.ports.all(p, c.ports.all(q, p.containerPort != q.containerPort)))"
    " && (!has(self.initContainers) || self.initContainers.all(o, o.name == c.name"
    " || !has(o.ports) || o.ports.all(p, c.ports.all(q, p.containerPort != q.containerPort))))))"
)
_KNOWN_VOLUMES = (
    "(!has(c.volumeMounts) || c.volumeMounts.all(m,"
    " has(self.volumes) && self.volumes.exists(v, v.name == m.name)))"
)


class Template(Model):
    """The containers and volumes of each demo."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "self.containers.exists(c, has(c.ports) && c.ports.size() > 0)"
                    " || (has(self.initContainers) && self.initContainers.exists(c,"
                    " has(c.restartPolicy) && has(c.ports) && c.ports.size() > 0))",
                    "message": "one container must have ports: the port that clients use",
                    "fieldPath": ".containers",
                },
                {
                    "rule": "!has(self.initContainers) || self.initContainers.all(i,"
                    " !self.containers.exists(c, c.name == i.name))",
                    "message": "must have other names than those in containers",
                    "fieldPath": ".initContainers",
                },
                {
                    "rule": _each_container(_OWN_PORTS),
                    "message": "containers share one network: each port may be used once",
                    "fieldPath": ".containers",
                },
                {
                    "rule": _each_container(_KNOWN_VOLUMES),
                    "message": "volumeMounts[].name must be one of spec.template.volumes[].name",
                    "fieldPath": ".containers",
                },
            ]
        }
    )

    init_containers: Annotated[
        tuple[InitContainer, ...],
        Field(max_length=MAX_CONTAINERS, json_schema_extra=LIST_MAP_BY_NAME),
    ] = ()
    """Containers that start before the others, one after the other, at a cold start."""

    containers: Annotated[
        tuple[Container, ...],
        Field(min_length=1, max_length=MAX_CONTAINERS, json_schema_extra=LIST_MAP_BY_NAME),
    ]
    """The containers of the application. Several of them share their network, as in a Pod, and
    are checkpointed and restored together."""

    volumes: Annotated[
        tuple[Volume, ...],
        Field(max_length=MAX_VOLUMES, json_schema_extra=LIST_MAP_BY_NAME),
    ] = ()
    """Directories that the containers see."""

    image_pull_secrets: Annotated[
        tuple[LocalReference, ...],
        Field(max_length=16, json_schema_extra=LIST_MAP_BY_NAME),
    ] = ()
    """Secrets of the same namespace, of type kubernetes.io/dockerconfigjson, with which the images
    are pulled."""

    @property
    def members(self) -> tuple[Container, ...]:
        """The containers that run on and are checkpointed, in the order in which they start."""
        sidecars = [container for container in self.init_containers if container.is_sidecar]
        return (*sidecars, *self.containers)

    @property
    def ports(self) -> tuple[int, ...]:
        """All ports of the application, those of ``containers`` first."""
        ordered = (*self.containers, *(c for c in self.init_containers if c.is_sidecar))
        return tuple(port.container_port for c in ordered for port in c.ports)

    def by_field(self) -> Iterator[tuple[str, Container]]:
        """Yield all containers in the order in which they start, each with its field's path."""
        for number, first in enumerate(self.init_containers):
            yield f"spec.template.initContainers[{number}]", first
        for number, container in enumerate(self.containers):
            yield f"spec.template.containers[{number}]", container
