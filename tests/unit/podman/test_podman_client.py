"""What we make of Podman's refusals, and of containers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.unit.builders import make_template
from tests.unit.podman.libpod import FakeLibpod, no_content, not_modified
from tryitnow.api.template import ResourceLimits
from tryitnow.podman.client import (
    MemoryMount,
    Mount,
    NewContainer,
    Podman,
    PortMapping,
)
from tryitnow.podman.errors import (
    NoSuchContainerError,
    NoSuchImageError,
    PodmanError,
    PodmanUnreachableError,
)
from tryitnow.settings import PodmanSettings

NAME = "tryitnow_demo_default_anna_12345678"
PORTS = [PortMapping(20001, 8080), PortMapping(20002, 8443)]


async def test_an_error_is_reported_in_podmans_own_words(
    libpod: FakeLibpod, podman: Podman
) -> None:
    message = f'starting container "{NAME}": crun: no such user'
    libpod.on_error("POST", f"/containers/{NAME}/start", message)
    with pytest.raises(PodmanError) as caught:
        await podman.start(NAME)
    assert str(caught.value) == message
    assert type(caught.value) is PodmanError


async def test_an_error_that_is_no_json_is_reported_too(libpod: FakeLibpod, podman: Podman) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="bad gateway")

    libpod.on("POST", f"/containers/{NAME}/start", answer)
    with pytest.raises(PodmanError, match="bad gateway"):
        await podman.start(NAME)


async def test_a_missing_container_has_an_error_of_its_own(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_error("POST", f"/containers/{NAME}/start", "no such container", status=404)
    with pytest.raises(NoSuchContainerError, match="no such container"):
        await podman.start(NAME)


async def test_without_a_service_it_says_where_it_looked_and_what_to_check(
    tmp_path: Path,
) -> None:
    podman = Podman(PodmanSettings(socket=f"unix://{tmp_path}/nobody.sock"))
    with pytest.raises(
        PodmanUnreachableError, match=r"nobody\.sock: .*No such file.*log of the container podman"
    ):
        await podman.inspect(NAME)
    podman.close()


async def test_without_a_service_no_image_is_blamed(tmp_path: Path) -> None:
    podman = Podman(PodmanSettings(socket=f"unix://{tmp_path}/nobody.sock"))
    with pytest.raises(PodmanUnreachableError):
        await podman.pull("reg.example/shop:1")
    podman.close()


async def test_a_service_that_dies_in_the_middle_of_an_answer_is_unreachable(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_stream("GET", "/containers/json", b'[{"Names": ["tryi', breaks=True)
    with pytest.raises(PodmanUnreachableError):
        await podman.list_containers("tryitnow_")
    libpod.on_json("GET", "/containers/json", [])
    assert await podman.list_containers("tryitnow_") == [], "and works again when it is back"


async def test_a_call_that_is_cancelled_ends_before_its_caller_does(
    libpod: FakeLibpod, podman: Podman
) -> None:
    began, go_on, ended = asyncio.Event(), asyncio.Event(), []

    async def answer(_: web.Request) -> web.StreamResponse:
        began.set()
        await go_on.wait()
        ended.append(NAME)
        return web.Response(status=204)

    libpod.on("POST", f"/containers/{NAME}/start", answer)
    starting = asyncio.create_task(podman.start(NAME))
    await began.wait()
    starting.cancel()
    await asyncio.sleep(0.02)
    assert not starting.done(), "or its container appeared after it was cleaned up"
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert ended == [NAME]


async def test_a_cold_start_says_all_of_the_template(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_json("POST", "/containers/create", {"Id": "c0ffee"}, 201)
    libpod.on("POST", f"/containers/{NAME}/start", no_content)
    [container] = make_template(command=("/bin/serve",), args=("--fast",)).containers
    new = NewContainer(
        container,
        "1f2e",
        env={"LANG": "C.UTF-8"},
        ports=tuple(PORTS),
        mounts=(Mount(Path("/volumes/1/config"), "/etc/shop", read_only=True),),
        limits=ResourceLimits(cpu="500m", memory="64Mi", pids=20),
    )
    await podman.create_and_start(NAME, new)
    created, started = libpod.asked
    spec = json.loads(created.body)
    assert spec["name"] == NAME
    assert spec["image"] == "1f2e"
    assert spec["entrypoint"] == ["/bin/serve"]
    assert spec["command"] == ["--fast"]
    assert spec["env"] == {"LANG": "C.UTF-8"}
    assert spec["portmappings"] == [
        {"host_port": 20001, "container_port": 8080, "protocol": "tcp"},
        {"host_port": 20002, "container_port": 8443, "protocol": "tcp"},
    ]
    assert spec["image_volume_mode"] == "ignore", (
        "or the checkpoint would not contain the image's volumes"
    )
    assert spec["oom_score_adj"] == 1000, "as of a Pod for which nothing is reserved"
    assert spec["mounts"] == [
        {
            "type": "bind",
            "source": "/volumes/1/config",
            "destination": "/etc/shop",
            "options": ["rbind", "ro"],
        }
    ]
    assert spec["resource_limits"] == {
        "cpu": {"quota": 50_000, "period": 100_000},
        "memory": {"limit": 64 << 20},
        "pids": {"limit": 20},
    }
    assert started.path == f"/containers/{NAME}/start"


async def test_the_images_own_command_stands_unless_it_is_replaced(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_json("POST", "/containers/create", {"Id": "c0ffee"}, 201)
    libpod.on("POST", f"/containers/{NAME}/start", no_content)
    await podman.create_and_start(NAME, NewContainer(make_template().containers[0], "1f2e"))
    spec = json.loads(libpod.asked[0].body)
    assert not {"entrypoint", "command"} & spec.keys()
    assert (
        not {"cap_add", "cap_drop", "no_new_privileges", "shm_size", "mounts", "hostadd"}
        & spec.keys()
    )


async def test_a_container_is_made_as_it_is_reported_and_not_started(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_json("POST", "/containers/create", {"Id": "c0ffee"}, 201)
    new = NewContainer(
        make_template().containers[0],
        "1f2e",
        mounts=(
            Mount(Path("/volumes/1/data"), "/data", read_only=False),
            MemoryMount("/cache", 1 << 20),
            MemoryMount("/run/lock"),
        ),
        cap_add=("CAP_NET_RAW",),
        cap_drop=("CAP_SETPCAP",),
        no_new_privileges=True,
        selinux=True,
        shm_bytes=256 << 20,
    )
    await podman.create_container(NAME, new)
    [created] = libpod.asked
    spec = json.loads(created.body)
    assert spec["no_new_privileges"] is True
    assert (spec["cap_add"], spec["cap_drop"]) == (["CAP_NET_RAW"], ["CAP_SETPCAP"])
    assert spec["shm_size"] == 256 << 20
    data, cache, lock = spec["mounts"]
    assert data["options"] == ["rbind", "rw", "z"]
    assert (cache["type"], cache["destination"]) == ("tmpfs", "/cache")
    assert cache["options"] == ["rw", "mode=1777", "notmpcopyup", "size=1048576"]
    assert lock["options"] == ["rw", "mode=1777", "notmpcopyup"]


async def test_a_member_has_the_shm_of_its_pod(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_json("POST", "/containers/create", {"Id": "c0ffee"}, 201)
    container = make_template().containers[0]
    await podman.create_container(NAME, NewContainer(container, "1f2e", pod="p", shm_bytes=1))
    spec = json.loads(libpod.asked[0].body)
    assert spec["pod"] == "p"
    assert "shm_size" not in spec


async def test_what_a_container_needs_is_made_before_it_starts(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on("POST", f"/containers/{NAME}/init", no_content)
    await podman.init(NAME)
    libpod.on("POST", f"/containers/{NAME}/init", not_modified)
    await podman.init(NAME)


async def test_an_image_that_is_missing_is_no_missing_container(
    libpod: FakeLibpod, podman: Podman
) -> None:
    output = "no such image: 1f2e: image not known"
    libpod.on_error("POST", "/containers/create", output, 404)
    with pytest.raises(NoSuchImageError):
        await podman.create_container(NAME, NewContainer(make_template().containers[0], "1f2e"))


async def test_removing_kills_and_is_fine_with_nobody_there(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_json("DELETE", f"/containers/{NAME}", [{"Id": "c0ffee"}])
    await podman.remove(NAME)
    assert libpod.asked[0].query["force"] == "True"
    libpod.on_error("DELETE", f"/containers/{NAME}", "no such container", 404)
    await podman.remove(NAME)
    libpod.on_error("DELETE", f"/containers/{NAME}", "container is busy", 500)
    with pytest.raises(PodmanError, match="busy"):
        await podman.remove(NAME)


async def test_a_container_is_seen_with_its_ports(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_json(
        "GET",
        f"/containers/{NAME}/json",
        {
            "Id": "c0ffee",
            "Name": NAME,
            "ImageName": "reg.example/shop:1",
            "State": {"Running": False, "ExitCode": 137, "Pid": 0},
            "HostConfig": {
                "PortBindings": {
                    "8080/tcp": [{"HostIp": "", "HostPort": "20001"}],
                    "9999/tcp": None,
                }
            },
        },
    )
    state = await podman.inspect(NAME)
    assert state is not None
    assert (state.name, state.running, state.exit_code) == (NAME, False, 137)
    assert state.ports == (PortMapping(20001, 8080),)


async def test_a_member_of_a_pod_is_seen_with_the_ports_of_its_pod(
    libpod: FakeLibpod, podman: Podman
) -> None:
    """As Podman 5.8 shows one that has ended."""
    libpod.on_json(
        "GET",
        f"/containers/{NAME}/json",
        {
            "Id": "c0ffee",
            "Name": NAME,
            "Pod": "decaf",
            "State": {"Running": False, "ExitCode": 137, "Pid": 0},
            "HostConfig": {"PortBindings": {}},
            "NetworkSettings": {
                "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "20003"}], "81/tcp": None}
            },
        },
    )
    state = await podman.inspect(NAME)
    assert state is not None
    assert state.ports == (PortMapping(20003, 80),)


async def test_a_container_that_is_not_there_is_nothing(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_error("GET", f"/containers/{NAME}/json", "no such container", 404)
    assert await podman.inspect(NAME) is None


async def test_a_list_has_stopped_containers_and_unfolds_ranges_of_ports(
    libpod: FakeLibpod, podman: Podman
) -> None:
    item: dict[str, Any] = {
        "Names": [NAME],
        "Id": "c0ffee",
        "State": "exited",
        "ExitCode": 1,
        "Pid": 0,
        "Image": "reg.example/shop:1",
        "Ports": [{"host_port": 20001, "container_port": 8080, "range": 2, "protocol": "tcp"}],
    }
    running = item | {"Names": ["tryitnow_x"], "State": "running", "Pid": 7, "Ports": None}
    libpod.on_json("GET", "/containers/json", [item, running])
    stopped, other = await podman.list_containers("tryitnow_")
    assert not stopped.running
    assert stopped.ports == (PortMapping(20001, 8080), PortMapping(20002, 8081))
    assert other.running
    assert other.ports == ()
    [asked] = libpod.asked
    assert asked.query["all"] == "True"
    assert json.loads(asked.query["filters"]) == {"name": ["^tryitnow_"]}


async def test_the_last_lines_come_without_their_frames(libpod: FakeLibpod, podman: Podman) -> None:
    def frame(stream: int, text: str) -> bytes:
        data = text.encode()
        return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data

    frames = frame(1, "Bücher\n") + frame(2, "fatal: no database\n") + frame(1, "bye\n")
    libpod.on_stream("GET", f"/containers/{NAME}/logs", frames[:20], frames[20:])
    assert await podman.log_tail(NAME, lines=3) == "Bücher\nfatal: no database\nbye"
    assert libpod.asked[0].query["tail"] == "3"


async def test_a_container_that_said_nothing_has_no_last_lines(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_stream("GET", f"/containers/{NAME}/logs")
    assert await podman.log_tail(NAME) == ""


@pytest.mark.parametrize("path", ["/containers/json", "/pods/json"])
async def test_a_container_that_goes_while_all_are_listed_is_no_failure(
    libpod: FakeLibpod, podman: Podman, path: str
) -> None:
    """Podman fails as a whole then, and the node could not be compared with the cluster."""
    asked = 0

    async def listed(_: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 1:
            text = f"no container with ID {'c0ffee11' * 8} found in database: no such container"
            return web.json_response({"cause": "no such container", "message": text}, status=500)
        return web.json_response([])

    libpod.on_json("GET", "/containers/json", [])
    libpod.on("GET", path, listed)
    list_all = podman.list_containers if path.startswith("/containers") else podman.list_pods
    assert await list_all("tryitnow_") == []
    assert asked == 2


async def test_a_listing_that_fails_for_another_reason_is_not_repeated(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_error("GET", "/containers/json", "database is locked")
    with pytest.raises(PodmanError, match="database is locked"):
        await podman.list_containers("tryitnow_")
    assert len(libpod.asked) == 1
