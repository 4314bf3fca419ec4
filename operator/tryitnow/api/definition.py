"""The definition of an application: its start, its readiness, and its checkpoint by CRIU.

A ``CheckpointRevision`` holds one definition and never changes it.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field, WithJsonSchema

from tryitnow.api.duration import ShortTimeout, StartTimeout
from tryitnow.api.hooks import Hooks, ParameterList
from tryitnow.api.meta import NO_SPACE, Model
from tryitnow.api.network import Network
from tryitnow.api.template import Container, Scheme, Template

IDENTITY_DIGITS = 32
"""Hexadecimal digits of a revision's identity: 128 bits, so that nobody finds two definitions with
the same one (a collision takes 2^64 tries)."""


class HTTPGet(Model):
    """The request that tells whether the application is ready."""

    path: Annotated[str, Field(max_length=2048, pattern=f"^/{NO_SPACE}*$")] = "/"
    """Path to request. Defaults to /."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Container port to request; one of the template's ports.
    Defaults to the first port that a container has."""

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=f"^{NO_SPACE}+$")] | None = (
        None
    )
    """Host header to send. Defaults to the node's address and port, as in the demo's URL."""

    scheme: Scheme = Scheme.HTTP
    """HTTP or HTTPS. HTTPS accepts any certificate, as a Pod's probe does. The demo's URL has the
    same scheme. Defaults to HTTP."""


class Readiness(Model):
    """The readiness check: at the build, after each start, and regularly from then on."""

    http_get: HTTPGet = HTTPGet()
    """The request that tells whether the application is ready."""

    expected_status: Annotated[int, Field(ge=100, le=599)] = 200
    """HTTP status that means ready. Redirects are not followed. Defaults to 200."""

    expected_body: Annotated[str, Field(max_length=4096)] = ""
    """Text that the body must contain. Defaults to no condition on the body."""

    timeout: StartTimeout = timedelta(minutes=5)
    """Time in which the application must be ready after a cold start, or after a start that follows
    a crash, at most 1h. Defaults to 5m."""

    restore_timeout: ShortTimeout = timedelta(seconds=15)
    """Time in which a restored demo must be ready, at most 10m. After that the restore counts as
    failed, and the demo is started cold. Defaults to 15s."""


class WarmUp(Model):
    """Requests that fill the application's caches before the checkpoint."""

    paths: Annotated[
        tuple[
            Annotated[str, WithJsonSchema({"type": "string", "maxLength": 2048, "pattern": "^/"})],
            ...,
        ],
        Field(min_length=1, max_length=100),
    ]
    """Paths to request, in this order. Redirects are not followed, since they may lead
    elsewhere: name both paths. A status of 500 or above fails the build."""

    rounds: Annotated[int, Field(ge=1, le=100)] = 1
    """Number of rounds through the paths. Defaults to 1."""


class TCPPolicy(StrEnum):
    """The treatment of TCP connections that are open at the checkpoint."""

    CLOSE = "Close"
    ESTABLISHED = "Established"


class Compression(StrEnum):
    """How an archive is compressed."""

    ZSTD = "Zstd"
    NONE = "None"


class CRIUOptions(Model):
    """How CRIU checkpoints and restores."""

    tcp: TCPPolicy | None = None
    """TCP connections that are open at the checkpoint: Close ends them at the restore (the
    application reconnects), Established restores them (for connections inside the application).
    Defaults to Close for one container and to Established for several."""

    file_locks: bool = True
    """Whether to checkpoint file locks, as databases hold them. Defaults to true."""

    compression: Compression = Compression.ZSTD
    """Compression of the archive: Zstd or None. Defaults to Zstd."""


class Definition(Model):
    """Everything needed to start, checkpoint and restore an application."""

    template: Template
    """The containers and volumes of each demo."""

    readiness: Readiness = Readiness()
    """The request that decides whether the application is ready."""

    warm_up: WarmUp | None = None
    """Requests made before the checkpoint."""

    criu: CRIUOptions = CRIUOptions()
    """How CRIU checkpoints and restores."""

    hooks: Hooks = Hooks()
    """Commands to run before the checkpoint, after each start, and before a demo is deleted."""

    parameters: ParameterList = ()
    """Parameters that a demo may set."""

    network: Network = Network()
    """The connections that the containers may open to the outside."""

    @property
    def main(self) -> Container:
        """The first of ``containers``: hooks run in it unless they say otherwise."""
        return self.template.containers[0]

    @property
    def probe_port(self) -> int:
        """The container port that readiness asks and that a demo's URL leads to."""
        return self.readiness.http_get.port or self.template.ports[0]

    @property
    def criu_options(self) -> CRIUOptions:
        """How CRIU checkpoints and restores, with the defaults decided."""
        several = len(self.template.members) > 1
        default = TCPPolicy.ESTABLISHED if several else TCPPolicy.CLOSE
        return self.criu.model_copy(update={"tcp": self.criu.tcp or default})

    @property
    def blocks_tcp(self) -> bool:
        """Whether no TCP may move between the containers until all of them are restored.

        Several containers are restored one by one. A connection whose other end is not there yet
        would be reset by the kernel.
        """
        several = len(self.template.members) > 1
        return several and self.criu_options.tcp is TCPPolicy.ESTABLISHED

    def identity(self, checkpoint_uid: str) -> str:
        """Return what identifies a revision: equal for equal content of the same Checkpoint.

        Fields that have their default value do not count: a field that a newer version of us adds
        must not make new revisions of all Checkpoints.
        """
        decided = self.model_copy(update={"criu": self.criu_options})
        content = decided.model_dump(
            by_alias=True, mode="json", exclude_none=True, exclude_defaults=True
        )
        text = json.dumps([checkpoint_uid, content], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:IDENTITY_DIGITS]
