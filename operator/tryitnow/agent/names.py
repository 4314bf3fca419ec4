"""Names of the containers that we run, and what they say about their owner.

A restored container carries the labels of the one that was frozen, so only the name can tell
whose it is. Kubernetes names contain no underscore: the parts can always be told apart.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

from tryitnow.api.demoinstance import DemoInstance
from tryitnow.api.meta import Key
from tryitnow.api.nodecheckpoint import NodeCheckpoint

PREFIX = "tryitnow_"
"""All our containers begin so; nothing else on the node is ever touched."""


POD_PREFIX = f"{PREFIX}pod_"
POD_TAG_BYTES = 8
_POD = re.compile(rf"{POD_PREFIX}([0-9a-f]{{{2 * POD_TAG_BYTES}}})")


class Role(StrEnum):
    """What a container is there for."""

    DEMO = "demo"
    BUILD = "build"
    VERIFY = "verify"
    PREPARE = "prepare"
    WARM = "warm"
    SLOT = "slot"


@dataclass(frozen=True)
class ContainerName:
    """Role and owner of one of our containers."""

    role: Role
    owner: Key
    tag: str
    """Tells owners of the same name apart: the start of a UID, or a revision (of what waits:
    and a number)."""

    def __str__(self) -> str:
        return f"{PREFIX}{self.role}_{self.owner.namespace}_{self.owner.name}_{self.tag}"


@dataclass(frozen=True)
class PodName:
    """Name of one of our pods, which says nothing about its owner: Podman renames no pods.

    Whose it is, the name of its main container tells.
    """

    tag: str

    def __str__(self) -> str:
        return f"{POD_PREFIX}{self.tag}"

    def member(self, container: str) -> str:
        """Return the name of a member other than the main container."""
        return f"{self}_{container}"


def new_pod() -> PodName:
    """Return a name for a new pod."""
    return PodName(secrets.token_hex(POD_TAG_BYTES))


def parse_pod(name: str) -> PodName | None:
    """Read a pod's name; None when it is not one of ours."""
    found = _POD.fullmatch(name)
    return PodName(found[1]) if found else None


def demo_container(instance: DemoInstance) -> ContainerName:
    """Return the name of the container of an instance."""
    return ContainerName(Role.DEMO, instance.key, instance.metadata.uid[:8])


def work_container(role: Role, copy: NodeCheckpoint) -> ContainerName:
    """Return the name of the container of a build or of a test restore."""
    owner = copy.checkpoint_key
    return ContainerName(role, owner, copy.spec.revision)


def warm_container(copy: NodeCheckpoint) -> ContainerName:
    """Return a new name for the container of a warm copy."""
    return _waiting(Role.WARM, copy)


def slot_container(copy: NodeCheckpoint) -> ContainerName:
    """Return a new name for a container that waits for its pages."""
    return _waiting(Role.SLOT, copy)


def waits_for(name: ContainerName, role: Role, copy: NodeCheckpoint) -> bool:
    """Whether a container waits in that role for demos of that revision."""
    owner = copy.checkpoint_key
    of_revision = name.tag.startswith(f"{copy.spec.revision}-")
    return name.role is role and name.owner == owner and of_revision


def _waiting(role: Role, copy: NodeCheckpoint) -> ContainerName:
    owner = copy.checkpoint_key
    return ContainerName(role, owner, f"{copy.spec.revision}-{secrets.token_hex(4)}")


def parse(name: str) -> ContainerName | None:
    """Read a container's name; None when it is not one of ours."""
    parts = name.removeprefix(PREFIX).split("_")
    if not name.startswith(PREFIX) or len(parts) != 4 or parts[0] not in set(Role):
        return None
    return ContainerName(Role(parts[0]), Key(parts[1], parts[2]), parts[3])
