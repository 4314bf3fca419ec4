"""Pods: containers that share a network, an IPC namespace and a host name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from tryitnow.podman.apart import Kind
from tryitnow.podman.calls import (
    CALL_SECONDS,
    Calls,
    act,
    ask,
    ask_if_there,
    ask_list,
    delete_if_there,
    pid_of,
)
from tryitnow.podman.errors import PodmanError
from tryitnow.podman.spec import port_mappings
from tryitnow.podman.state import PortMapping

_LISTING = "(pods)"

_RUNNING = "running"
_ENDED = frozenset({"exited", "stopped"})
"""States of a container that has an exit code; libpod has the code of none that is removed."""


_UNSTOPPABLE = "could not be stopped"
_REMOVALS = 4
"""Tries to remove a pod. Where the conmon of a container was killed, Podman waits 5 s for it, says
that the container could not be stopped, and removes it the next time (``removeContainer`` in
libpod/runtime_ctr.go); what others depend on comes last."""


@dataclass(frozen=True)
class PodState:
    """Podman's facts about a pod.

    Attributes:
        name: Its name.
        id: Its ID.
        infra_id: ID of the container that holds its namespaces.
        members: State of each other container by name: running, paused, exited, …
        infra_running: Whether its namespaces are held: after the node was booted they are not,
            until ``start_pod_infra``.
        exit_codes: Exit code of each member that has ended, by name.

    """

    name: str
    id: str
    infra_id: str
    members: Mapping[str, str] = field(default_factory=dict)
    infra_running: bool = False
    exit_codes: Mapping[str, int] = field(default_factory=dict)


class Pods(Calls):
    """Our pods on this node."""

    async def create_pod(
        self,
        name: str,
        ports: tuple[PortMapping, ...],
        *,
        hostname: str | None = None,
        shm_bytes: int | None = None,
        dns_servers: Sequence[str] = (),
        start: bool = True,
    ) -> int:
        """Make a pod without members, and start what holds its namespaces.

        Args:
            name: Its name.
            ports: Ports of the node that lead to it.
            hostname: The host name that its members see.
            shm_bytes: Size of the /dev/shm that its members share.
            dns_servers: The DNS servers in its /etc/resolv.conf, which has no search list then.
                By default it is the node's.
            start: Whether it is started: until then no port is taken.

        Returns the process ID by which its namespaces can be reached; 0 when it is not started.

        Raises:
            NameTakenError: another pod has the name.

        """

        def call(api: Any) -> int:  # noqa: ANN401
            spec: dict[str, Any] = {
                "name": name,
                # Else it has the pod's ID alone, and nobody could tell whose it is.
                "infra_name": f"{name}-infra",
                "portmappings": port_mappings(ports),
            }
            if hostname is not None:
                spec["hostname"] = hostname
            if shm_bytes is not None:
                spec["shm_size"] = shm_bytes
            if dns_servers:
                # "." is Podman's word for no search list (podman-create(1)).
                spec |= {"dns_server": list(dns_servers), "dns_search": ["."]}
            api.post("/pods/create", data=json.dumps(spec), timeout=CALL_SECONDS).raise_for_status()
            return _start_infra(api, name) if start else 0

        return await self._run_whole(call, on=name)

    async def start_pod_infra(self, name: str) -> int:
        """Start what holds a pod's namespaces, as after a boot; its members are not started.

        Starting a member would start it too, and hide why it cannot be started.

        Returns the process ID by which the namespaces can be reached. Fine when it runs.

        Raises:
            NoSuchPodError: there is no such pod.

        """

        def call(api: Any) -> int:  # noqa: ANN401
            return _start_infra(api, name)

        return await self._run_whole(call, on=name)

    async def inspect_pod(self, name: str) -> PodState | None:
        """Return a pod's state, by name or ID; None when there is none."""

        def call(api: Any) -> PodState | None:  # noqa: ANN401
            found = ask_if_there(api, f"/pods/{name}/json")
            if found is None:
                return None
            codes = {}
            if any(container["State"] in _ENDED for container in found.get("Containers") or ()):
                codes = _exit_codes(api, {"pod": [found["Id"]]})
            return _from_inspect(found, codes)

        return await self._run(call, on=name)

    async def list_pods(self, prefix: str) -> list[PodState]:
        """Return all pods whose name starts with the prefix; waits for checkpoints under way."""

        def call(api: Any) -> list[PodState]:  # noqa: ANN401
            # It waits for a checkpoint that an agent before this one ordered, and holds no pod.
            ask_list(api, "/containers/json", all=True)
            filters = json.dumps({"name": [f"^{prefix}"]})
            pods = ask_list(api, "/pods/json", filters=filters)
            members = (c for pod in pods for c in pod.get("Containers") or ())
            codes = {}
            if any(container["Status"] in _ENDED for container in members):
                codes = _exit_codes(api, {})
            return [_from_list(pod, codes) for pod in pods]

        async with self._apart.during(Kind.LIST_OF_PODS):
            return await self._run(call, on=_LISTING)

    async def stop_pod(self, name: str) -> None:
        """End all processes of a pod, and keep its files; fine when they have ended.

        Raises:
            NoSuchPodError: there is none.

        """

        def call(api: Any) -> None:  # noqa: ANN401
            # 0 s: what nobody owns gets no time to tell anybody (`t` of PodStopLibpod).
            answer = api.post(f"/pods/{name}/stop", params={"t": 0}, timeout=CALL_SECONDS)
            if answer.status_code != requests.codes.not_modified:
                answer.raise_for_status()

        await self._run_removal(call, on=name)

    async def remove_pod(self, name: str) -> None:
        """Kill and remove a pod with its containers, by name or ID; fine when there is none.

        It waits for what Podman does with its containers, as a restore that was cancelled.

        Raises:
            PodmanError: something of it cannot be removed.

        """

        def call(api: Any) -> None:  # noqa: ANN401
            delete_if_there(api, f"/pods/{name}", force=True, timeout=0)

        for tries_left in reversed(range(_REMOVALS)):
            try:
                await self._run_removal(call, on=name)
            except PodmanError as error:
                if not tries_left or _UNSTOPPABLE not in str(error):
                    raise
            else:
                return


def _start_infra(api: Any, name: str) -> int:  # noqa: ANN401
    infra = ask(api, f"/pods/{name}/json").get("InfraContainerID", "")
    if not infra:
        msg = f"pod {name} has lost the container that holds its namespaces: remove the pod"
        raise PodmanError(msg)
    act(api, infra, "start")
    if not (pid := pid_of(api, infra)):
        msg = f"the container that holds the namespaces of pod {name} ended at once"
        raise PodmanError(msg)
    return pid


def _exit_codes(api: Any, filters: Mapping[str, list[str]]) -> dict[str, int]:  # noqa: ANN401
    """Return exit codes by container ID: Podman tells none where it tells of pods."""
    listed = ask_list(api, "/containers/json", all=True, filters=json.dumps(filters))
    return {found["Id"]: int(found.get("ExitCode", 0)) for found in listed or ()}


def _from_inspect(found: Mapping[str, Any], codes: Mapping[str, int]) -> PodState:
    members = [(c["Id"], c["Name"], c["State"]) for c in found.get("Containers") or ()]
    return _pod(found["Name"], found["Id"], found.get("InfraContainerID", ""), members, codes)


def _from_list(found: Mapping[str, Any], codes: Mapping[str, int]) -> PodState:
    members = [(c["Id"], c["Names"], c["Status"]) for c in found.get("Containers") or ()]
    return _pod(found["Name"], found["Id"], found.get("InfraId", ""), members, codes)


def _pod(
    name: str,
    id_: str,
    infra: str,
    containers: list[tuple[str, str, str]],
    codes: Mapping[str, int],
) -> PodState:
    return PodState(
        name=name,
        id=id_,
        infra_id=infra,
        members={own: state for its, own, state in containers if its != infra},
        infra_running=any(its == infra and state == _RUNNING for its, _, state in containers),
        exit_codes={
            own: codes[its]
            for its, own, state in containers
            if its != infra and state in _ENDED and its in codes
        },
    )
