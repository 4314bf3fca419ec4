"""Names of our containers and pods, and what a name says about its owner.

The name of a sandbox's main container says whose the sandbox is, so that a rename changes the owner
at one stroke. Kubernetes names contain no underscore: the parts can always be told apart.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from enum import StrEnum

from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint
from tryitnow.kubernetes.objects import AnyObject

PREFIX = "tryitnow_"
"""All our containers begin so; nothing else on the node is ever touched."""

POD_PREFIX = f"{PREFIX}pod_"
INFRA = "-infra"
"""Ending of the name of a pod's own container, which holds its namespaces."""

_POD_TAG_BYTES = 8
_POD = re.compile(rf"{POD_PREFIX}([0-9a-f]{{{2 * _POD_TAG_BYTES}}})")
_MEMBER = re.compile(rf"{_POD.pattern}_(.+)")


class Role(StrEnum):
    """What a sandbox is there for."""

    DEMO = "demo"
    BUILD = "build"
    VERIFY = "verify"
    PREPARE = "prepare"
    """A container in which an image is made or looked into; it is in no sandbox."""

    WARM = "warm"
    PRECREATED = "precreated"
    TRASH = "trash"
    """A demo's sandbox that nobody owned: stopped, and kept for a while."""


@dataclass(frozen=True)
class ContainerName:
    """Role and owner of a main container, and so of its sandbox."""

    role: Role
    owner: Key
    tag: str
    """Tells owners of the same name apart: the start of a UID; the identity of a revision; that
    and a number, where several wait."""

    def __str__(self) -> str:
        return f"{PREFIX}{self.role}_{self.owner.namespace}_{self.owner.name}_{self.tag}"

    def in_trash(self, at: int) -> ContainerName:
        """Return the name under which a demo's sandbox waits in the trash since a Unix time."""
        return replace(self, role=Role.TRASH, tag=f"{self.tag}-{at}")


@dataclass(frozen=True)
class PodName:
    """Name of a sandbox's pod. It says nothing about the owner: Podman renames no pods."""

    tag: str

    def __str__(self) -> str:
        return f"{POD_PREFIX}{self.tag}"

    def member(self, container: str) -> str:
        """Return the name of a member other than the main container."""
        return f"{self}_{container}"


def new_pod() -> PodName:
    """Return a name for a new pod."""
    return PodName(secrets.token_hex(_POD_TAG_BYTES))


def parse_pod(name: str) -> PodName | None:
    """Read a pod's name; None when it is not one of ours."""
    found = _POD.fullmatch(name)
    return PodName(found[1]) if found else None


def parse_member(name: str) -> str | None:
    """Read which container of the template a pod's member is; None for the pod's own container."""
    found = _MEMBER.fullmatch(name)
    return found[2] if found else None


def parse_infra(name: str) -> PodName | None:
    """Read whose namespaces a container holds; None where it is no pod's own container."""
    return parse_pod(name.removesuffix(INFRA)) if name.endswith(INFRA) else None


def demo_name(demo: AnyObject) -> ContainerName:
    """Return the name of a demo's sandbox; its metadata is enough."""
    return ContainerName(Role.DEMO, demo.key, demo.metadata.uid[:8])


def work_name(role: Role, checkpoint: NodeCheckpoint) -> ContainerName:
    """Return the name of the one sandbox that a revision has for a kind of work."""
    return ContainerName(role, checkpoint.checkpoint_key, checkpoint.spec.revision)


def stock_name(role: Role, checkpoint: NodeCheckpoint) -> ContainerName:
    """Return a new name for a sandbox that waits: warm or pre-created."""
    tag = f"{checkpoint.spec.revision}-{secrets.token_hex(4)}"
    return ContainerName(role, checkpoint.checkpoint_key, tag)


def waits_for(name: ContainerName, role: Role, checkpoint: NodeCheckpoint) -> bool:
    """Whether a sandbox waits in that role for demos of that revision."""
    of_revision = name.tag.startswith(f"{checkpoint.spec.revision}-")
    return name.role is role and name.owner == checkpoint.checkpoint_key and of_revision


def parse(name: str) -> ContainerName | None:
    """Read a main container's name; None when it is not one of ours."""
    parts = name.removeprefix(PREFIX).split("_")
    if not name.startswith(PREFIX) or len(parts) != 4 or parts[0] not in set(Role):
        return None
    return ContainerName(Role(parts[0]), Key(parts[1], parts[2]), parts[3])
