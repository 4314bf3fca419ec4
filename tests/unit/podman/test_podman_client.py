"""What we make of Podman's answers."""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.parse
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.unit.builders import make_archive, make_template
from tests.unit.podman.libpod import FakeLibpod
from tryitnow.agent.archive import ArchiveName, ArchiveStore, DigestMismatchError
from tryitnow.api.checkpoint import Compression, CRIUOptions, TCPPolicy
from tryitnow.api.meta import Key
from tryitnow.api.template import ResourceLimits
from tryitnow.podman.client import (
    MemoryMount,
    Mount,
    NewContainer,
    Podman,
    PortMapping,
    PullPolicy,
)
from tryitnow.podman.errors import (
    CRIUError,
    ImageNameError,
    ImagePullError,
    NoSuchContainerError,
    NoSuchImageError,
    PodmanError,
    PodmanUnreachableError,
)
from tryitnow.podman.registry_auth import Credentials
from tryitnow.settings import PodmanSettings

NAME = "tryitnow_demo_default_anna_12345678"
DIGEST = "sha256:" + "5" * 64
PORTS = [PortMapping(20001, 8080), PortMapping(20002, 8443)]


# -- errors, by what the caller can do about them --------------------------------------------------


async def test_an_error_is_said_in_podmans_own_words(libpod: FakeLibpod, podman: Podman) -> None:
    message = f'starting container "{NAME}": crun: no such user'
    libpod.on_error("POST", f"/containers/{NAME}/start", message)
    with pytest.raises(PodmanError) as caught:
        await podman.start(NAME)
    assert str(caught.value) == message
    assert type(caught.value) is PodmanError


async def test_an_error_that_is_no_json_is_said_too(libpod: FakeLibpod, podman: Podman) -> None:
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


async def test_a_cancelled_thaw_is_cancelled_even_when_its_archive_was_damaged(
    libpod: FakeLibpod, podman: Podman
) -> None:
    # Or the archive's error took the place of the cancellation, and the interrupted start went on
    # with a cold start.
    del libpod
    loop, reading = asyncio.get_running_loop(), asyncio.Event()

    def damaged() -> Iterator[bytes]:
        yield b"first"
        loop.call_soon_threadsafe(reading.set)
        time.sleep(0.1)
        msg = "not what was frozen"
        raise DigestMismatchError(msg)

    thawing = asyncio.create_task(podman.restore_import(NAME, CRIUOptions(), PORTS, damaged))
    await reading.wait()
    thawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await thawing


# -- images ---------------------------------------------------------------------------------------


def serve_image(libpod: FakeLibpod, *repo_digests: str) -> None:
    lines = [{"stream": "Getting image source"}, {"images": ["1f2e"], "id": "1f2e"}]
    libpod.on_stream("POST", "/images/pull", *(json.dumps(x).encode() + b"\n" for x in lines))
    libpod.on_json("GET", "/images/1f2e/json", {"Id": "1f2e", "RepoDigests": list(repo_digests)})


@pytest.mark.parametrize(
    ("reference", "digests", "pinned"),
    [
        ("reg.example/shop:1.2", [f"reg.example/shop@{DIGEST}"], f"reg.example/shop@{DIGEST}"),
        ("reg.example:5000/shop", [f"reg.example:5000/shop@{DIGEST}"],
         f"reg.example:5000/shop@{DIGEST}"),
        ("reg.example:5000/a/shop:1", [f"z.example/shop@{DIGEST}",
         f"reg.example:5000/a/shop@{DIGEST}"], f"reg.example:5000/a/shop@{DIGEST}"),
        ("shop:1", [f"docker.io/library/shop@{DIGEST}"], f"docker.io/library/shop@{DIGEST}"),
        (f"reg.example/shop@{DIGEST}", [], f"reg.example/shop@{DIGEST}"),
        ("reg.example/shop:1", [], "1f2e"),
    ],
    ids=["tag", "port", "several", "short", "digest", "without a digest"],
)  # fmt: skip
async def test_an_image_is_pinned_to_what_was_pulled(
    libpod: FakeLibpod, podman: Podman, reference: str, digests: list[str], pinned: str
) -> None:
    serve_image(libpod, *digests)
    image = await podman.pull(reference)
    assert image.pinned == pinned
    assert image.id == "1f2e"


async def test_a_pull_asks_for_newer_layers_and_a_thaw_only_for_missing_ones(
    libpod: FakeLibpod, podman: Podman
) -> None:
    serve_image(libpod)
    await podman.pull("reg.example/shop:1.2")
    await podman.ensure_image(f"reg.example/shop@{DIGEST}")
    pulls = [a.query for a in libpod.asked if a.path == "/images/pull"]
    assert [(p["reference"], p["policy"]) for p in pulls] == [
        ("reg.example/shop:1.2", "newer"),
        (f"reg.example/shop@{DIGEST}", "missing"),
    ]


async def test_a_pull_that_fails_halfway_is_an_error_though_the_status_was_200(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_stream(
        "POST",
        "/images/pull",
        b'{"stream":"Trying to pull reg.example/shop:9..."}\n',
        b'{"error":"reading manifest 9: manifest unknown"}\n',
    )
    with pytest.raises(ImagePullError, match=r"'reg.example/shop:9' cannot be pulled.*unknown"):
        await podman.pull("reg.example/shop:9")


async def test_a_pull_that_is_refused_is_the_same_error(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_error("POST", "/images/pull", "requested access to the resource is denied", 401)
    with pytest.raises(ImagePullError, match="access to the resource is denied"):
        await podman.pull("shop")


async def test_a_name_that_is_none_does_not_reach_podman(
    libpod: FakeLibpod, podman: Podman
) -> None:
    with pytest.raises(ImageNameError):
        await podman.pull("localhost/tryitnow/prepared:1")
    assert libpod.asked == []


async def test_a_name_is_pulled_as_it_is_meant(libpod: FakeLibpod, podman: Podman) -> None:
    serve_image(libpod, f"docker.io/library/nginx@{DIGEST}")
    assert (await podman.pull("nginx")).pinned == f"docker.io/library/nginx@{DIGEST}"
    assert libpod.asked[0].query["reference"] == "docker.io/library/nginx:latest"


@pytest.mark.parametrize(
    ("reference", "policy", "asked"),
    [
        (f"reg.example/shop@{DIGEST}", None, "missing"),
        ("reg.example/shop:1", None, "newer"),
        ("reg.example/shop:1", PullPolicy.MISSING, "missing"),
        (f"reg.example/shop@{DIGEST}", PullPolicy.ALWAYS, "always"),
    ],
)
async def test_the_registry_is_asked_when_it_has_to_be(
    libpod: FakeLibpod, podman: Podman, reference: str, policy: PullPolicy | None, asked: str
) -> None:
    serve_image(libpod)
    await podman.pull(reference, policy=policy)
    assert libpod.asked[0].query["policy"] == asked


async def test_credentials_are_tried_one_after_the_other(
    libpod: FakeLibpod, podman: Podman
) -> None:
    serve_image(libpod)
    serve = libpod.answer_of("POST", "/images/pull")
    anna, ben = Credentials("anna", "1"), Credentials("ben", "2")
    shown: list[str | None] = []

    async def only_ben(request: web.Request) -> web.StreamResponse:
        shown.append(request.headers.get("X-Registry-Auth"))
        if shown[-1] != ben.header()["X-Registry-Auth"]:
            return web.json_response({"cause": "no", "message": "access denied"}, status=401)
        return await serve(request)

    libpod.on("POST", "/images/pull", only_ben)
    assert (await podman.pull("reg.example/shop:1", auth=[anna, ben])).id == "1f2e"
    with pytest.raises(ImagePullError, match="denied"):
        await podman.pull("reg.example/shop:1", auth=[anna])
    with pytest.raises(ImagePullError, match="denied"):
        await podman.pull("reg.example/shop:1")
    assert shown == [*(c.header()["X-Registry-Auth"] for c in (anna, ben, anna)), None]


async def test_a_service_that_dies_during_a_pull_is_no_fault_of_the_image(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_stream("POST", "/images/pull", b'{"stream":"Copying bl', breaks=True)
    with pytest.raises(PodmanUnreachableError):
        await podman.pull("reg.example/shop:1")


REPOSITORY = "localhost/tryitnow/prepared"


def quoted(reference: str) -> str:
    return urllib.parse.quote(reference, safe="")


@pytest.fixture
def workshop(libpod: FakeLibpod, tmp_path: Path) -> Path:
    """A service that makes images; returns the root file system of the container for it."""
    serve_image(libpod)
    root = tmp_path / "root"
    root.mkdir()

    async def mounted(_: web.Request) -> web.StreamResponse:
        return web.Response(text=f"{root}\n")

    libpod.on_error("DELETE", f"/containers/{NAME}", "no such container", 404)
    libpod.on_error("DELETE", f"/images/{quoted(f'{REPOSITORY}:77')}", "no such image", 404)
    libpod.on_json("POST", "/containers/create", {"Id": "c0ffee"}, 201)
    libpod.on("POST", f"/containers/{NAME}/mount", mounted)
    libpod.on("POST", f"/containers/{NAME}/unmount", _no_content)
    libpod.on_json("POST", "/commit", {"Id": "abcd"}, 201)
    return root


async def test_an_image_is_made_of_another_and_what_is_put_into_it(
    libpod: FakeLibpod, podman: Podman, workshop: Path
) -> None:
    def fill(root: Path) -> None:
        (root / "index.html").write_text("welcome")

    assert await podman.build_image(NAME, "1f2e", REPOSITORY, "77", fill) == "abcd"
    assert (workshop / "index.html").read_text() == "welcome"
    asked = [(a.method, a.path) for a in libpod.asked]
    assert asked.index(("DELETE", f"/images/{quoted(f'{REPOSITORY}:77')}")) < asked.index(
        ("POST", "/commit")
    ), "or the one before would stay without a name"
    assert asked[-1] == ("DELETE", f"/containers/{NAME}")
    [committed] = [a.query for a in libpod.asked if a.path == "/commit"]
    assert committed == {"container": NAME, "repo": REPOSITORY, "tag": "77"}
    [created] = [json.loads(a.body) for a in libpod.asked if a.path == "/containers/create"]
    assert created["image"] == "1f2e"


async def test_an_image_that_cannot_be_filled_leaves_nothing_behind(
    libpod: FakeLibpod, podman: Podman, workshop: Path
) -> None:
    del workshop

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await podman.build_image(NAME, "1f2e", REPOSITORY, "77", full)
    asked = [(a.method, a.path) for a in libpod.asked]
    assert ("POST", "/commit") not in asked
    assert asked[-1] == ("DELETE", f"/containers/{NAME}")


async def test_whether_an_image_is_there(libpod: FakeLibpod, podman: Podman) -> None:
    path = f"/images/{quoted(f'{REPOSITORY}:77')}/exists"
    libpod.on("GET", path, _no_content)
    assert await podman.has_image(f"{REPOSITORY}:77")
    libpod.on_error("GET", path, "no such image", 404)
    assert not await podman.has_image(f"{REPOSITORY}:77")
    libpod.on_error("GET", path, "storage is locked", 500)
    with pytest.raises(PodmanError, match="storage is locked"):
        await podman.has_image(f"{REPOSITORY}:77")


async def test_the_tags_of_one_repository_are_told_from_those_of_others(
    libpod: FakeLibpod, podman: Podman
) -> None:
    images = [
        {"Id": "1f2e", "RepoTags": [f"{REPOSITORY}:77", "reg.example:5000/shop:1"]},
        {"Id": "3d4c", "RepoTags": [f"{REPOSITORY}/more:78"]},
        {"Id": "5b6a", "RepoTags": None},
    ]
    libpod.on_json("GET", "/images/json", images)
    assert await podman.image_tags(REPOSITORY) == {"77"}
    assert await podman.images_of(REPOSITORY) == {"77": "1f2e"}
    assert json.loads(libpod.asked[0].query["filters"]) == {"reference": [REPOSITORY]}
    libpod.on_json("GET", "/images/json", None)
    assert await podman.image_tags(REPOSITORY) == set()


async def test_an_image_that_is_pruned_meanwhile_does_not_fail_the_list(
    libpod: FakeLibpod, podman: Podman
) -> None:
    asked = 0

    async def answer(_: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 1:
            said = "retrieving size of image 1f2e: layer not known"
            return web.json_response({"cause": said, "message": said}, status=500)
        return web.json_response([{"Id": "1f2e", "RepoTags": [f"{REPOSITORY}:77"]}])

    libpod.on("GET", "/images/json", answer)
    assert await podman.images_of(REPOSITORY) == {"77": "1f2e"}


async def test_an_image_that_a_container_needs_stays(libpod: FakeLibpod, podman: Podman) -> None:
    path = f"/images/{quoted(f'{REPOSITORY}:77')}"
    libpod.on_error("DELETE", path, "image is in use by a container", 409)
    assert not await podman.remove_image(f"{REPOSITORY}:77")
    libpod.on_json("DELETE", path, {"Deleted": ["abcd"]})
    assert await podman.remove_image(f"{REPOSITORY}:77")
    libpod.on_error("DELETE", path, "no such image", 404)
    assert await podman.remove_image(f"{REPOSITORY}:77"), "it is gone already"
    libpod.on_error("DELETE", path, "storage is locked", 500)
    with pytest.raises(PodmanError, match="storage is locked"):
        await podman.remove_image(f"{REPOSITORY}:77")


# -- containers -----------------------------------------------------------------------------------


async def test_a_cold_start_says_all_of_the_template(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_json("POST", "/containers/create", {"Id": "c0ffee"}, 201)
    libpod.on("POST", f"/containers/{NAME}/start", _no_content)
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
    assert spec["image_volume_mode"] == "ignore", "or the image's volumes were not frozen"
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
    libpod.on("POST", f"/containers/{NAME}/start", _no_content)
    await podman.create_and_start(NAME, NewContainer(make_template().containers[0], "1f2e"))
    spec = json.loads(libpod.asked[0].body)
    assert not {"entrypoint", "command"} & spec.keys()
    assert not {"no_new_privileges", "shm_size", "mounts", "hostadd"} & spec.keys()


async def test_a_container_is_made_as_it_is_said_and_not_started(
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
        no_new_privileges=True,
        selinux=True,
        shm_bytes=256 << 20,
    )
    await podman.create_container(NAME, new)
    [created] = libpod.asked
    spec = json.loads(created.body)
    assert spec["no_new_privileges"] is True
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
    libpod.on("POST", f"/containers/{NAME}/init", _no_content)
    await podman.init(NAME)
    libpod.on("POST", f"/containers/{NAME}/init", _not_modified)
    await podman.init(NAME)


async def test_an_image_that_is_missing_is_no_missing_container(
    libpod: FakeLibpod, podman: Podman
) -> None:
    said = "no such image: 1f2e: image not known"
    libpod.on_error("POST", "/containers/create", said, 404)
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


# -- freezing and thawing -------------------------------------------------------------------------


async def test_a_freeze_hands_the_export_on(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_stream("POST", f"/containers/{NAME}/checkpoint", b"one", b"two")
    got = await podman.checkpoint(NAME, CRIUOptions(file_locks=False), b"".join)
    assert got == b"onetwo"
    assert libpod.asked[0].query == {
        "export": "True",
        "ignoreRootFS": "True",
        "tcpEstablished": "True",
        "fileLocks": "False",
    }


USERDATA = f"overlay-containers/{'c0ffee11' * 8}/userdata"


def make_log(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"(00.012345) {line}\n" for line in lines))
    return path


async def test_a_freeze_that_criu_refuses_ends_with_the_tail_of_its_log(
    libpod: FakeLibpod, podman: Podman, tmp_path: Path
) -> None:
    log = make_log(
        tmp_path / USERDATA / "dump.log",
        "Dumping pages",
        "Error (criu/sk-inet.c:204): inet: Connected TCP socket, consider using option.",
        "Error (criu/cr-dump.c:2098): Dumping FAILED.",
    )
    libpod.on_error(
        "POST",
        f"/containers/{NAME}/checkpoint",
        f"CRIU checkpointing failed -52.  Please check CRIU logfile {log}",
    )
    with pytest.raises(CRIUError) as caught:
        await podman.checkpoint(NAME, CRIUOptions(), b"".join)
    tail = caught.value.log_tail.splitlines()
    assert tail[0].startswith("Error (criu/sk-inet.c:204)"), "without its timestamp"
    assert tail[1].endswith("Dumping FAILED.")
    assert tail[2] == (
        "What to do: close the connection before the checkpoint, or set spec.criu.tcp"
    )
    assert "Dumping pages" not in str(caught.value)
    assert str(caught.value).endswith(caught.value.log_tail)


async def test_the_log_is_found_where_podman_only_quotes_the_runtimes_command_line(
    podman: Podman, libpod: FakeLibpod, tmp_path: Path
) -> None:
    make_log(tmp_path / USERDATA / "dump.log", "Error (criu/files-reg.c:1): Can't dump ghost file")
    quoted = (
        f"`/usr/bin/crun checkpoint --image-path {tmp_path}/{USERDATA}/checkpoint --work-path"
        f" {tmp_path}/{USERDATA} --file-locks {NAME}` failed: exit status 1"
    )
    libpod.on_error("POST", f"/containers/{NAME}/checkpoint", quoted)
    with pytest.raises(CRIUError, match="ghost file"):
        await podman.checkpoint(NAME, CRIUOptions(), list)


async def test_a_mount_that_is_not_seen_from_here_is_told_and_taken_back(
    podman: Podman, libpod: FakeLibpod
) -> None:
    """As where a node's own Podman keeps its mounts to itself."""
    libpod.on_json("GET", f"/containers/{NAME}/json", {"Image": "sha256:abc"})
    libpod.on_json("POST", "/containers/create", {}, status=201)
    libpod.on_json("POST", f"/containers/{NAME}/mount", "/nowhere/merged")
    libpod.on_json("POST", f"/containers/{NAME}/unmount", None)
    libpod.on_json("DELETE", "/containers/helper", [])
    with pytest.raises(PodmanError, match="set `skip_mount_home"):
        await podman.with_roots(NAME, "helper", lambda root, image: (root, image))
    asked = [(request.method, request.path) for request in libpod.asked]
    assert ("POST", f"/containers/{NAME}/unmount") in asked
    assert asked[-1] == ("DELETE", "/containers/helper")


async def test_the_log_is_found_where_the_runtime_said_something_else(
    podman: Podman, libpod: FakeLibpod, tmp_path: Path
) -> None:
    make_log(
        tmp_path / USERDATA / "restore.log",
        "Error (criu/files-reg.c:2294): File srv has bad mode 040755 (expect 040750)",
        "Error (criu/cr-restore.c:2331): Restoring FAILED.",
    )
    said = "crun: (00.01) Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file"
    libpod.on_error("POST", f"/containers/{NAME}/restore", said)
    libpod.on_json("GET", f"/containers/{NAME}/json", {"StaticDir": f"{tmp_path}/{USERDATA}"})
    with pytest.raises(CRIUError, match="bad mode") as caught:
        await podman.restore(NAME, CRIUOptions())
    assert str(caught.value).startswith(said)


async def test_a_log_that_is_gone_leaves_podmans_own_words(
    libpod: FakeLibpod, podman: Podman
) -> None:
    message = "CRIU checkpointing failed -52.  Please check CRIU logfile /nowhere/dump.log"
    libpod.on_error("POST", f"/containers/{NAME}/checkpoint", message)
    with pytest.raises(CRIUError) as caught:
        await podman.checkpoint(NAME, CRIUOptions(), b"".join)
    assert str(caught.value) == message
    assert caught.value.log_tail == ""


async def test_no_other_file_is_read_whatever_an_error_names(
    libpod: FakeLibpod, podman: Podman, tmp_path: Path
) -> None:
    """An application's own words stand in errors: a command that is missing, for one."""
    secret = tmp_path / "token"
    secret.write_text("secret")
    volume = make_log(tmp_path / "volume/dump.log", "secret").parent
    (volume / "overlay-containers").mkdir()
    (volume / USERDATA).parent.mkdir()
    (volume / USERDATA).symlink_to(volume)
    plain = make_log(tmp_path / "other" / USERDATA / "restore.log")
    plain.unlink()
    plain.symlink_to(secret)
    fifo = tmp_path / "fifo" / USERDATA / "dump.log"
    fifo.parent.mkdir(parents=True)
    os.mkfifo(fifo)
    for path in (volume / "dump.log", volume / USERDATA / "dump.log", plain, fifo):
        message = f"crun: executable file `{path}` not found"
        libpod.on_error("POST", f"/containers/{NAME}/checkpoint", message)
        with pytest.raises(PodmanError) as caught:
            await podman.checkpoint(NAME, CRIUOptions(), list)
        assert str(caught.value) == message


async def test_a_service_that_dies_during_a_freeze_leaves_no_archive(
    libpod: FakeLibpod, podman: Podman, tmp_path: Path
) -> None:
    store, name = _store(tmp_path)
    libpod.on_stream("POST", f"/containers/{NAME}/checkpoint", b"half of an archive", breaks=True)
    with pytest.raises(PodmanUnreachableError):
        await podman.checkpoint(NAME, CRIUOptions(), lambda chunks: store.write(name, chunks))
    assert store.names() == set()


async def test_a_full_disk_is_not_blamed_on_podman(libpod: FakeLibpod, podman: Podman) -> None:
    # Or the build was tried for ever, instead of failing with WriteFailed.
    libpod.on_stream("POST", f"/containers/{NAME}/checkpoint", b"an archive")

    def full(chunks: Iterator[bytes]) -> None:
        for _ in chunks:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await podman.checkpoint(NAME, CRIUOptions(), full)


async def test_a_broken_disk_under_an_archive_is_not_blamed_on_podman(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_json("POST", f"/containers/{NAME}/restore", {"Id": "c0ffee"})

    def broken() -> Iterator[bytes]:
        yield b"first"
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error") as caught:
        await podman.restore_import(NAME, CRIUOptions(), PORTS, broken)
    assert caught.value.errno == 5


@pytest.mark.parametrize(
    ("tcp", "close", "established"),
    [(TCPPolicy.CLOSE, "True", "False"), (TCPPolicy.ESTABLISHED, "False", "True")],
)
async def test_a_thaw_gives_each_copy_its_own_name_address_and_ports(
    libpod: FakeLibpod, podman: Podman, tcp: TCPPolicy, close: str, established: str
) -> None:
    answer = {"Id": "c0ffee", "criu_statistics": {"restore_time": 150_000}}
    libpod.on_json("POST", f"/containers/{NAME}/restore", answer)
    took = await podman.restore_import(
        NAME, CRIUOptions(tcp=tcp), PORTS, lambda: iter([b"one", b"two"])
    )
    assert took == timedelta(milliseconds=150)
    [asked] = libpod.asked
    assert asked.body == b"onetwo"
    assert asked.query["name"] == NAME
    assert asked.query["publishPorts"] == "20001:8080 20002:8443"
    assert (asked.query["tcpClose"], asked.query["tcpEstablished"]) == (close, established)
    assert asked.query["ignoreStaticIP"] == asked.query["ignoreStaticMAC"] == "True"


async def test_a_thaw_into_a_container_that_waits_keeps_the_images_that_others_share(
    libpod: FakeLibpod, podman: Podman
) -> None:
    answer = {"Id": "c0ffee", "criu_statistics": {"restore_time": 150_000}}
    libpod.on_json("POST", f"/containers/{NAME}/restore", answer)
    assert await podman.restore(NAME, CRIUOptions()) == timedelta(milliseconds=150)
    [asked] = libpod.asked
    assert asked.query["keep"] == "True"
    assert asked.query["tcpClose"] == "True"
    assert "import" not in asked.query


async def test_a_container_that_waits_was_initialized_and_has_never_run(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_json("POST", "/containers/create", {"Id": "c0ffee"})
    for verb in ("init", "stop"):
        libpod.on_json("POST", f"/containers/{NAME}/{verb}", {})
    libpod.on_json("GET", f"/containers/{NAME}/json", {"StaticDir": "/storage/c0ffee/userdata"})
    container = make_template().containers[0]
    new = NewContainer(container, "prepared:1", ports=tuple(PORTS))
    directory = await podman.create_stopped(NAME, new)
    assert directory == Path("/storage/c0ffee/userdata")
    assert [a.path.rpartition("/")[2] for a in libpod.asked] == ["create", "init", "stop", "json"]
    assert json.loads(libpod.asked[0].body)["image"] == "prepared:1"


async def test_a_failed_thaw_removes_what_podman_left_of_it(
    libpod: FakeLibpod, podman: Podman, tmp_path: Path
) -> None:
    log = make_log(tmp_path / USERDATA / "restore.log", "Error (criu/mount.c:1): no mount")
    libpod.on_error("POST", f"/containers/{NAME}/restore", f"CRIU restoring failed -52. Log: {log}")
    libpod.on_json("DELETE", f"/containers/{NAME}", [])
    with pytest.raises(CRIUError, match="no mount"):
        await podman.restore_import(NAME, CRIUOptions(), PORTS, lambda: iter([b"archive"]))
    assert [a.method for a in libpod.asked] == ["POST", "DELETE"]


async def test_that_it_could_not_be_removed_does_not_hide_why_the_thaw_failed(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_error("POST", f"/containers/{NAME}/restore", "crun: cgroup is gone")
    libpod.on_error("DELETE", f"/containers/{NAME}", "container is busy")
    with pytest.raises(PodmanError, match="cgroup is gone"):
        await podman.restore_import(NAME, CRIUOptions(), PORTS, lambda: iter([b"archive"]))


async def test_podman_never_sees_a_whole_damaged_archive(
    libpod: FakeLibpod, podman: Podman, tmp_path: Path
) -> None:
    store, name = _store(tmp_path)
    content = b"frozen" * 500_000
    store.path(name).write_bytes(content[:-1] + b"?")
    libpod.on_json("POST", f"/containers/{NAME}/restore", {"Id": "c0ffee"})
    with pytest.raises(DigestMismatchError):
        await podman.restore_import(
            NAME, CRIUOptions(), PORTS, lambda: store.read(name, make_archive(content))
        )
    await asyncio.sleep(0.02)
    assert all(a.body == b"(broken off)" for a in libpod.asked)


def _store(tmp_path: Path) -> tuple[ArchiveStore, ArchiveName]:
    store = ArchiveStore(tmp_path / "checkpoints")
    store.open()
    return store, ArchiveName(Key("default", "shop"), "0123456789", Compression.NONE)


async def _no_content(_: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


async def _not_modified(_: web.Request) -> web.StreamResponse:
    return web.Response(status=304)
