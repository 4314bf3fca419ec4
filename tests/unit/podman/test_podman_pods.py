"""Pods, against libpod's endpoints."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from tests.unit.podman.libpod import FakeLibpod
from tryitnow.podman.client import Podman, PortMapping
from tryitnow.podman.errors import (
    NameTakenError,
    NodeLimitError,
    NoSuchPodError,
    PodmanError,
)

NAME = "tryitnow_demo_default_anna_12345678"
POD = "tryitnow_pod_0123456789abcdef"


async def test_a_pod_has_the_ports_and_somebody_who_holds_its_namespaces(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_json("POST", "/pods/create", {"Id": "1"}, 201)
    found = {"Name": POD, "Id": "1", "InfraContainerID": "infra", "Containers": []}
    libpod.on_json("GET", f"/pods/{POD}/json", found)
    libpod.on_json("POST", "/containers/infra/start", {})
    libpod.on_json("GET", "/containers/infra/json", {"State": {"Pid": 77}})
    assert await podman.create_pod(POD, (PortMapping(20001, 80),)) == 77
    assert json.loads(libpod.asked[0].body) == {
        "name": POD,
        "infra_name": f"{POD}-infra",
        "portmappings": [{"host_port": 20001, "container_port": 80, "protocol": "tcp"}],
    }


async def test_a_pod_may_be_made_before_its_ports_are_free(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_json("POST", "/pods/create", {"Id": "1"}, 201)
    ports = (PortMapping(20001, 80),)
    made = podman.create_pod(POD, ports, hostname="anna", shm_bytes=1 << 28, start=False)
    assert await made == 0
    [asked] = libpod.asked
    spec = json.loads(asked.body)
    assert (spec["hostname"], spec["shm_size"]) == ("anna", 1 << 28)


async def test_a_pod_whose_name_is_taken_is_not_made(libpod: FakeLibpod, podman: Podman) -> None:
    text = f'failed to make pod: adding pod to state: name "{POD}" is in use: pod already exists'
    libpod.on_error("POST", "/pods/create", text, 409)
    with pytest.raises(NameTakenError):
        await podman.create_pod(POD, ())


async def test_after_a_boot_the_namespaces_are_made_anew(
    libpod: FakeLibpod, podman: Podman
) -> None:
    found = {"Name": POD, "Id": "1", "InfraContainerID": "infra"}
    libpod.on_json("GET", f"/pods/{POD}/json", found)
    libpod.on_json("POST", "/containers/infra/start", {})
    libpod.on_json("GET", "/containers/infra/json", {"State": {"Pid": 78}})
    assert await podman.start_pod_infra(POD) == 78
    libpod.on_json("GET", "/containers/infra/json", {"State": {"Pid": 0}})
    with pytest.raises(PodmanError, match="ended at once"):
        await podman.start_pod_infra(POD)
    libpod.on_json("GET", f"/pods/{POD}/json", {"Name": POD, "Id": "1"})
    with pytest.raises(PodmanError, match="has lost the container"):
        await podman.start_pod_infra(POD)
    libpod.on_error("GET", f"/pods/{POD}/json", "no pod with name or ID x: no such pod", 404)
    with pytest.raises(NoSuchPodError):
        await podman.start_pod_infra(POD)


async def test_why_the_namespaces_cannot_be_made_is_reported(
    libpod: FakeLibpod, podman: Podman
) -> None:
    """Starting a member instead tells "internal libpod error"."""
    found = {"Name": POD, "Id": "1", "InfraContainerID": "infra"}
    libpod.on_json("GET", f"/pods/{POD}/json", found)
    text = "cannot listen on the TCP port: listen tcp4 :20001: bind: address already in use"
    libpod.on_error("POST", "/containers/infra/start", text)
    with pytest.raises(NodeLimitError, match="listen tcp4 :20001"):
        await podman.start_pod_infra(POD)


CODES = [{"Id": "infra", "ExitCode": 0}, {"Id": "2", "ExitCode": 137}, {"Id": "9", "ExitCode": 1}]


async def test_a_pods_members_are_all_but_the_holder(libpod: FakeLibpod, podman: Podman) -> None:
    containers = [
        {"Id": "infra", "Name": "1-infra", "State": "running"},
        {"Id": "2", "Name": NAME, "State": "exited"},
        {"Id": "3", "Name": f"{POD}_db", "State": "running"},
    ]
    found = {"Name": POD, "Id": "1", "InfraContainerID": "infra", "Containers": containers}
    libpod.on_json("GET", "/pods/1/json", found)
    libpod.on_json("GET", "/containers/json", CODES)
    pod = await podman.inspect_pod("1")
    assert pod
    assert pod.members == {NAME: "exited", f"{POD}_db": "running"}
    assert pod.exit_codes == {NAME: 137}
    assert pod.infra_running
    assert json.loads(libpod.asked[1].query["filters"]) == {"pod": ["1"]}
    libpod.on_error("GET", "/pods/1/json", "no such pod", 404)
    assert await podman.inspect_pod("1") is None


async def test_a_list_of_pods_tells_the_same(libpod: FakeLibpod, podman: Podman) -> None:
    """As after a boot: nothing runs."""
    containers = [
        {"Id": "infra", "Names": "1-infra", "Status": "exited"},
        {"Id": "2", "Names": NAME, "Status": "exited"},
        {"Id": "4", "Names": f"{POD}_new", "Status": "created"},
        {"Id": "5", "Names": f"{POD}_gone", "Status": "exited"},
    ]
    found = {"Name": POD, "Id": "1", "InfraId": "infra", "Containers": containers}
    libpod.on_json("GET", "/pods/json", [found])
    libpod.on_json("GET", "/containers/json", CODES)
    [pod] = await podman.list_pods("tryitnow_")
    assert not pod.infra_running
    assert pod.exit_codes == {NAME: 137}, "one was removed between the two questions"
    assert set(pod.members) == {NAME, f"{POD}_new", f"{POD}_gone"}


async def test_while_all_run_exit_codes_cost_no_question(
    libpod: FakeLibpod, podman: Podman
) -> None:
    containers = [{"Id": "2", "Names": NAME, "Status": "running"}]
    libpod.on_json("GET", "/containers/json", [])
    libpod.on_json("GET", "/pods/json", [{"Name": POD, "Id": "1", "Containers": containers}])
    [pod] = await podman.list_pods("tryitnow_")
    assert pod.exit_codes == {}
    assert [each.path for each in libpod.asked] == ["/containers/json", "/pods/json"], (
        "the first waits for a checkpoint that another agent ordered, and holds no pod"
    )


async def test_removing_a_pod_that_is_gone_is_fine(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_error("DELETE", f"/pods/{POD}", "no such pod", 404)
    await podman.remove_pod(POD)
    libpod.on_error("DELETE", f"/pods/{POD}", "storage is locked", 500)
    with pytest.raises(PodmanError, match="locked"):
        await podman.remove_pod(POD)


UNSTOPPABLE = "cannot remove container 29c1 as it could not be stopped: timed out waiting for file"


async def test_a_pod_whose_conmon_was_killed_is_removed_at_the_second_try(
    libpod: FakeLibpod, podman: Podman
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        if len(libpod.asked) > 1:
            return web.json_response({})
        return web.json_response({"cause": UNSTOPPABLE, "message": UNSTOPPABLE}, status=500)

    libpod.on("DELETE", f"/pods/{POD}", answer)
    await podman.remove_pod(POD)
    assert len(libpod.asked) == 2


async def test_a_pod_that_is_never_removed_is_not_tried_for_ever(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_error("DELETE", f"/pods/{POD}", UNSTOPPABLE)
    with pytest.raises(PodmanError, match="could not be stopped"):
        await podman.remove_pod(POD)
    assert len(libpod.asked) == 4
