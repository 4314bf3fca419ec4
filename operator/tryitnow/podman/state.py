"""Podman's facts about containers, in our words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class PortMapping:
    """A port of the node that leads to a port of a container."""

    host_port: int
    container_port: int


@dataclass(frozen=True)
class ContainerState:
    """Podman's facts about a container."""

    name: str
    id: str
    running: bool
    exit_code: int
    pid: int
    image: str
    ports: tuple[PortMapping, ...]
    paused: bool = False

    finished_at: datetime | None = None
    """When it last ended, by the node's clock; None when it never did. A listing has whole
    seconds."""

    pod: str = ""
    """ID of the pod that it is in, if any."""

    oom_killed: bool = False
    """Whether the kernel ended a process of it because its memory was used up.

    False in a listing, which does not tell it. Podman 5.8 never takes it back: after such an end it
    stays True, also when the container was started again and ended for another reason.
    """

    @property
    def alive(self) -> bool:
        """Whether its processes exist, paused or not: nothing of their memory is lost."""
        return self.running or self.paused


def from_inspect(found: dict[str, Any]) -> ContainerState:
    """Read the answer of an inspection."""
    bindings: dict[str, Any] = (
        found.get("HostConfig", {}).get("PortBindings")
        # A member of a pod has none of its own: its pod's are told here, also when it has ended.
        or found.get("NetworkSettings", {}).get("Ports")
        or {}
    )
    ports = tuple(
        PortMapping(host_port=int(entry["HostPort"]), container_port=int(port.split("/")[0]))
        for port, entries in bindings.items()
        for entry in entries or ()
    )
    state = found["State"]
    return ContainerState(
        name=found["Name"],
        id=found["Id"],
        running=bool(state["Running"]),
        paused=bool(state.get("Paused", False)),
        finished_at=_moment(state.get("FinishedAt")),
        exit_code=int(state.get("ExitCode", 0)),
        pid=int(state.get("Pid", 0)),
        image=found.get("ImageName", ""),
        ports=ports,
        pod=found.get("Pod", ""),
        oom_killed=bool(state.get("OOMKilled", False)),
    )


def from_list(item: dict[str, Any]) -> ContainerState:
    """Read one line of a listing."""
    return ContainerState(
        name=item["Names"][0],
        id=item["Id"],
        running=item["State"] == "running",
        paused=item["State"] == "paused",
        finished_at=_second(item.get("ExitedAt")),
        exit_code=int(item.get("ExitCode", 0)),
        pid=int(item.get("Pid", 0)),
        image=item.get("Image", ""),
        pod=item.get("Pod", ""),
        ports=tuple(
            PortMapping(
                host_port=int(p["host_port"]) + i, container_port=int(p["container_port"]) + i
            )
            for p in item.get("Ports") or ()
            for i in range(int(p.get("range", 1)))
        ),
    )


def _moment(message: str | None) -> datetime | None:
    if not message or message.startswith("0001-"):  # Go's zero time
        return None
    return datetime.fromisoformat(message).astimezone(UTC)


def _second(message: int | None) -> datetime | None:
    # Go's zero time is a negative number of seconds.
    return datetime.fromtimestamp(message, UTC) if message and message > 0 else None


def demultiplex(data: bytes) -> str:
    """Take the 8-byte frame headers out of a log stream (Docker's attach format)."""
    text, offset = b"", 0
    while offset + 8 <= len(data):
        size = int.from_bytes(data[offset + 4 : offset + 8], "big")
        text += data[offset + 8 : offset + 8 + size]
        offset += 8 + size
    return text.decode(errors="replace").strip()
