"""Podman's service on this node: the one door through which everything goes."""

from __future__ import annotations

from tryitnow.podman.containers import Executed
from tryitnow.podman.freezing import Freezing
from tryitnow.podman.images import Image, Images
from tryitnow.podman.pods import Pods, PodState
from tryitnow.podman.spec import Mount, NewContainer
from tryitnow.podman.state import ContainerState, PortMapping

__all__ = [
    "ContainerState",
    "Executed",
    "Image",
    "Mount",
    "NewContainer",
    "PodState",
    "Podman",
    "PortMapping",
]


class Podman(Images, Freezing, Pods):
    """Podman's service on this node."""
