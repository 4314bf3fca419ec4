"""Checkpoints and restores, against libpod's endpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.builders import make_template
from tests.unit.podman.libpod import FakeLibpod
from tryitnow.api.definition import CRIUOptions, TCPPolicy
from tryitnow.podman.client import (
    NewContainer,
    Podman,
    PortMapping,
)
from tryitnow.podman.errors import (
    CRIUError,
    PodmanError,
    PodmanUnreachableError,
)

NAME = "tryitnow_demo_default_anna_12345678"
PORTS = [PortMapping(20001, 8080), PortMapping(20002, 8443)]


async def test_a_checkpoint_hands_the_export_on(libpod: FakeLibpod, podman: Podman) -> None:
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


async def test_a_checkpoint_that_criu_refuses_ends_with_the_tail_of_its_log(
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
    assert tail[1] == (
        "What to do: close the connection before the checkpoint, or set spec.criu.tcp"
    )
    assert "Dumping pages" not in str(caught.value)
    assert str(caught.value).startswith(caught.value.log_tail)


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


async def test_a_mount_that_is_not_seen_from_here_is_reported_and_taken_back(
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
    text = "crun: (00.01) Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file"
    libpod.on_error("POST", f"/containers/{NAME}/restore", text)
    libpod.on_json("GET", f"/containers/{NAME}/json", {"StaticDir": f"{tmp_path}/{USERDATA}"})
    with pytest.raises(CRIUError, match="bad mode") as caught:
        await podman.restore(NAME, CRIUOptions())
    assert str(caught.value).endswith(f"(Podman: {text})"), "which is an after-effect here"


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


async def test_a_service_that_dies_during_a_checkpoint_gives_no_whole_export(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_stream("POST", f"/containers/{NAME}/checkpoint", b"half of an archive", breaks=True)
    with pytest.raises(PodmanUnreachableError):
        await podman.checkpoint(NAME, CRIUOptions(), b"".join)


async def test_a_full_disk_is_not_blamed_on_podman(libpod: FakeLibpod, podman: Podman) -> None:
    # Or the build was tried for ever, instead of failing with WriteFailed.
    libpod.on_stream("POST", f"/containers/{NAME}/checkpoint", b"an archive")

    def full(chunks: Iterator[bytes]) -> None:
        for _ in chunks:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await podman.checkpoint(NAME, CRIUOptions(), full)


@pytest.mark.parametrize(
    ("tcp", "close", "established"),
    [(TCPPolicy.CLOSE, "True", "False"), (TCPPolicy.ESTABLISHED, "False", "True")],
)
async def test_a_restore_into_a_container_that_waits_keeps_the_pages_that_others_share(
    libpod: FakeLibpod, podman: Podman, tcp: TCPPolicy, close: str, established: str
) -> None:
    answer = {"Id": "c0ffee", "criu_statistics": {"restore_time": 150_000}}
    libpod.on_json("POST", f"/containers/{NAME}/restore", answer)
    took = await podman.restore(NAME, CRIUOptions(tcp=tcp))
    assert took == timedelta(milliseconds=150)
    [asked] = libpod.asked
    assert asked.query["keep"] == "True"
    assert (asked.query["tcpClose"], asked.query["tcpEstablished"]) == (close, established)
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
