"""Pods, and commands in containers, against libpod's endpoints."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from aiohttp import web

from tests.unit.podman.libpod import FakeLibpod
from tryitnow.podman.client import Podman, PortMapping
from tryitnow.podman.errors import ExecTimeoutError, PodmanError

NAME = "tryitnow_demo_default_anna_12345678"
POD = "tryitnow_pod_0123456789abcdef"
EXEC = f"/containers/{NAME}/exec"
SOON, LONG = timedelta(milliseconds=100), timedelta(seconds=10)


def frame(text: str, stream: int = 1) -> bytes:
    data = text.encode()
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


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
        "portmappings": [{"host_port": 20001, "container_port": 80, "protocol": "tcp"}],
    }


async def test_a_pods_members_are_all_but_the_holder(libpod: FakeLibpod, podman: Podman) -> None:
    containers = [
        {"Id": "infra", "Name": "1-infra", "State": "running"},
        {"Id": "2", "Name": NAME, "State": "exited"},
    ]
    found = {"Name": POD, "Id": "1", "InfraContainerID": "infra", "Containers": containers}
    libpod.on_json("GET", "/pods/1/json", found)
    pod = await podman.inspect_pod("1")
    assert pod
    assert pod.members == {NAME: "exited"}
    libpod.on_error("GET", "/pods/1/json", "no such pod", 404)
    assert await podman.inspect_pod("1") is None


async def test_removing_a_pod_that_is_gone_is_fine(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_error("DELETE", f"/pods/{POD}", "no such pod", 404)
    await podman.remove_pod(POD)
    libpod.on_error("DELETE", f"/pods/{POD}", "storage is locked", 500)
    with pytest.raises(PodmanError, match="locked"):
        await podman.remove_pod(POD)


async def test_a_command_is_told_its_environment_and_its_end_is_told(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_json("POST", EXEC, {"Id": "7"}, 201)
    libpod.on_stream("POST", "/exec/7/start", frame("out "), frame("err", 2))
    libpod.on_json("GET", "/exec/7/json", {"ExitCode": 3})
    done = await podman.execute(NAME, ["sh", "-c", "x"], {"A": "1"}, LONG)
    assert (done.exit_code, done.output) == (3, "out err")
    order = json.loads(libpod.asked[0].body)
    assert order["Cmd"] == ["sh", "-c", "x"]
    assert order["Env"] == ["A=1"]


async def test_a_command_that_hangs_is_given_up_with_what_it_wrote(
    libpod: FakeLibpod, podman: Podman
) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(frame("waiting"))
        await asyncio.sleep(0.5)
        return response

    libpod.on_json("POST", EXEC, {"Id": "7"}, 201)
    libpod.on("POST", "/exec/7/start", hang)
    libpod.on_json("GET", "/exec/7/json", {"ExitCode": 0})
    with pytest.raises(ExecTimeoutError, match=r"within 0\.1 s") as caught:
        await podman.execute(NAME, ["sleep"], {}, SOON)
    assert caught.value.output == "waiting"


async def test_a_program_that_is_not_there_is_podmans_error(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_json("POST", EXEC, {"Id": "7"}, 201)
    libpod.on_error("POST", "/exec/7/start", "crun: executable file `nope` not found in $PATH")
    with pytest.raises(PodmanError, match="`nope` not found"):
        await podman.execute(NAME, ["nope"], {}, LONG)


async def test_of_a_long_output_the_end_is_kept(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_json("POST", EXEC, {"Id": "7"}, 201)
    line = frame("x" * 1000)
    libpod.on_stream("POST", "/exec/7/start", *[line * 100] * 5, frame("the end"))
    libpod.on_json("GET", "/exec/7/json", {"ExitCode": 1})
    done = await podman.execute(NAME, ["sh"], {}, LONG)
    assert done.output.endswith("the end")
    assert len(done.output) <= 160 << 10
