"""Pods: containers that share a network, an IPC namespace and a host name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from tryitnow.podman.calls import CALL_SECONDS, FREEZE_SECONDS, Calls, act, pid_of
from tryitnow.podman.spec import port_mappings
from tryitnow.podman.state import PortMapping

_LISTING = "(pods)"


@dataclass(frozen=True)
class PodState:
    """What Podman says about a pod.

    Attributes:
        name: Its name.
        id: Its ID.
        infra_id: ID of the container that holds its namespaces.
        members: State of each other container by name: running, paused, exited, …

    """

    name: str
    id: str
    infra_id: str
    members: Mapping[str, str] = field(default_factory=dict)


class Pods(Calls):
    """Our pods on this node."""

    async def create_pod(self, name: str, ports: tuple[PortMapping, ...]) -> int:
        """Make a pod without members, and start what holds its namespaces.

        Returns the process ID by which its namespaces can be reached.
        """

        def call(api: Any) -> int:  # noqa: ANN401
            spec = {"name": name, "portmappings": port_mappings(ports)}
            api.post("/pods/create", data=json.dumps(spec), timeout=CALL_SECONDS).raise_for_status()
            infra = _inspect(api, name).infra_id
            act(api, infra, "start")
            return pid_of(api, infra)

        return await self._run_whole(call, on=name)

    async def inspect_pod(self, name: str) -> PodState | None:
        """Return a pod's state, by name or ID; None when there is none."""

        def call(api: Any) -> PodState | None:  # noqa: ANN401
            answer = api.get(f"/pods/{name}/json", timeout=CALL_SECONDS)
            if answer.status_code == requests.codes.not_found:
                return None
            answer.raise_for_status()
            return _from_pod(answer.json())

        return await self._run(call, on=name)

    async def list_pods(self, prefix: str) -> list[PodState]:
        """Return all pods whose name starts with the prefix."""

        def call(api: Any) -> list[PodState]:  # noqa: ANN401
            params = {"filters": json.dumps({"name": [f"^{prefix}"]})}
            answer = api.get("/pods/json", params=params, timeout=CALL_SECONDS)
            answer.raise_for_status()
            return [
                PodState(
                    name=pod["Name"],
                    id=pod["Id"],
                    infra_id=pod.get("InfraId", ""),
                    members={
                        container["Names"]: container["Status"]
                        for container in pod.get("Containers") or ()
                        if container["Id"] != pod.get("InfraId")
                    },
                )
                for pod in answer.json() or ()
            ]

        return await self._run(call, on=_LISTING)

    async def remove_pod(self, name: str) -> None:
        """Kill and remove a pod with its containers, by name or ID; fine when there is none."""

        def call(api: Any) -> None:  # noqa: ANN401
            params = {"force": True, "timeout": 0}
            answer = api.delete(f"/pods/{name}", params=params, timeout=FREEZE_SECONDS)
            if answer.status_code != requests.codes.not_found:
                answer.raise_for_status()

        await self._run_removal(call, on=name)


def _inspect(api: Any, name: str) -> PodState:  # noqa: ANN401
    answer = api.get(f"/pods/{name}/json", timeout=CALL_SECONDS)
    answer.raise_for_status()
    return _from_pod(answer.json())


def _from_pod(found: dict[str, Any]) -> PodState:
    infra = found.get("InfraContainerID", "")
    members = {
        container["Name"]: container["State"]
        for container in found.get("Containers") or ()
        if container["Id"] != infra
    }
    return PodState(name=found["Name"], id=found["Id"], infra_id=infra, members=members)
