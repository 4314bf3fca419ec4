"""Podman's service on this node: the one door through which everything goes."""

from __future__ import annotations

from typing import Any

from tryitnow.podman.calls import CALL_SECONDS
from tryitnow.podman.checkpointing import Checkpointing
from tryitnow.podman.commands import Commands, Executed
from tryitnow.podman.events import ContainerEvent, ContainerEvents, EventAction, Events
from tryitnow.podman.images import Image, Images, PullPolicy
from tryitnow.podman.layers import Layers
from tryitnow.podman.pods import Pods, PodState
from tryitnow.podman.service import Service, ServiceInfo
from tryitnow.podman.spec import MemoryMount, Mount, NewContainer
from tryitnow.podman.state import ContainerState, PortMapping

__all__ = [
    "ContainerEvent",
    "ContainerEvents",
    "ContainerState",
    "EventAction",
    "Executed",
    "Image",
    "MemoryMount",
    "Mount",
    "NewContainer",
    "PodState",
    "Podman",
    "PortMapping",
    "PullPolicy",
    "ServiceInfo",
]


class Podman(Images, Checkpointing, Layers, Pods, Commands, Events, Service):
    """Podman's service on this node."""

    async def ping(self) -> None:
        """Ask whether it lives; a checkpoint under way does not delay the answer.

        Raises:
            PodmanFailure: it does not, or refuses.

        """

        def call(api: Any) -> None:  # noqa: ANN401
            api.get("/_ping", timeout=CALL_SECONDS).raise_for_status()

        await self._run(call)
