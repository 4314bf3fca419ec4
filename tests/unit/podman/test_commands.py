"""Commands that are run in containers, against libpod's endpoints."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from tests.unit.podman.libpod import FakeLibpod
from tryitnow.podman import commands
from tryitnow.podman.client import Podman
from tryitnow.podman.errors import ExecTimeoutError, PodmanError, PodmanUnreachableError
from tryitnow.podman.oom import let_go_first

NAME = "tryitnow_demo_default_anna_12345678"
EXEC = f"/containers/{NAME}/exec"
SOON, LONG = timedelta(seconds=1), timedelta(seconds=10)


def frame(text: str, stream: int = 1) -> bytes:
    data = text.encode()
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


async def test_a_command_is_reported_its_environment_and_its_end_is_reported(
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
    assert (libpod.asked[-1].method, libpod.asked[-1].path) == ("POST", "/exec/7/remove")


@pytest.mark.parametrize("status", [204, 404, 500])
async def test_a_command_ends_as_it_does_whether_or_not_podman_can_forget_it(
    libpod: FakeLibpod, podman: Podman, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    libpod.on_json("POST", EXEC, {"Id": "7"}, 201)
    libpod.on_stream("POST", "/exec/7/start", frame("done"))
    libpod.on_json("GET", "/exec/7/json", {"ExitCode": 0})
    libpod.on_json("POST", "/exec/7/remove", {"message": "locked"}, status)
    assert (await podman.execute(NAME, ["true"], {}, LONG)).exit_code == 0
    assert ("Podman keeps a command that ended" in caplog.text) is (status == 500)


async def test_a_command_that_hangs_is_given_up_with_what_it_wrote(
    libpod: FakeLibpod, podman: Podman
) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(frame("waiting"))
        await given_up.wait()
        return response

    given_up = asyncio.Event()

    libpod.on_json("POST", EXEC, {"Id": "7"}, 201)
    libpod.on("POST", "/exec/7/start", hang)
    libpod.on_json("GET", "/exec/7/json", {"ExitCode": 0})
    with pytest.raises(ExecTimeoutError, match=r"within 1 s") as caught:
        await podman.execute(NAME, ["sleep"], {}, SOON)
    given_up.set()
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


async def test_a_service_that_dies_during_a_command_is_unreachable(
    libpod: FakeLibpod, podman: Podman
) -> None:
    libpod.on_json("POST", EXEC, {"Id": "7"}, 201)
    libpod.on_json("GET", "/exec/7/json", {"ExitCode": 0})
    libpod.on_stream("POST", "/exec/7/start", frame("begun"), breaks=True)
    with pytest.raises(PodmanUnreachableError):
        await podman.execute(NAME, ["sh"], {}, LONG)


# -- memory scores ---------------------------------------------------------------------------------


async def test_a_command_goes_as_early_as_its_container_when_memory_ends(
    libpod: FakeLibpod, podman: Podman, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the kernel killed the whole demo, and never the command that took the memory."""
    adjusted: list[int] = []
    monkeypatch.setattr(commands, "let_go_first", adjusted.append)
    libpod.on_json("POST", EXEC, {"Id": "7"}, 201)
    libpod.on_stream("POST", "/exec/7/start", frame("done"))
    libpod.on_json("GET", "/exec/7/json", {"ExitCode": 0, "Pid": 4711})
    await podman.execute(NAME, ["sh"], {}, LONG)
    assert adjusted == [4711]


async def test_a_command_whose_process_is_not_told_runs_all_the_same(
    libpod: FakeLibpod, podman: Podman
) -> None:
    asked = 0

    async def found(_: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 1:
            return web.json_response({"cause": "busy", "message": "busy"}, status=500)
        return web.json_response({"ExitCode": 3})

    libpod.on_json("POST", EXEC, {"Id": "7"}, 201)
    libpod.on_stream("POST", "/exec/7/start", frame("done"))
    libpod.on("GET", "/exec/7/json", found)
    assert (await podman.execute(NAME, ["sh"], {}, LONG)).exit_code == 3


@contextmanager
def family() -> Iterator[tuple[int, int]]:
    """A process and its child, which both wait."""
    child = "import time; time.sleep(60)"
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
        "child.kill()\n"
        "child.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())


def foreign(tmp_path: Path, *pids: int) -> Path:
    """A /proc in which these processes are in another PID namespace than we are."""
    proc = tmp_path / "proc"
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/ns/pid").symlink_to("pid:[1]")
    for pid in pids:
        (proc / str(pid) / "ns").mkdir(parents=True)
        (proc / str(pid) / "ns/pid").symlink_to("pid:[2]")
        for real in ("oom_score_adj", "task"):
            (proc / str(pid) / real).symlink_to(f"/proc/{pid}/{real}")
    return proc


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_what_a_command_started_already_goes_with_it(tmp_path: Path) -> None:
    with family() as (parent, child):
        let_go_first(parent, foreign(tmp_path, parent, child))
        assert (score(parent), score(child)) == (1000, 1000)


def test_a_process_of_our_own_namespace_is_left_alone() -> None:
    """Where the agent does not see Podman's processes, a PID is that of another one."""
    before = score(os.getpid())
    let_go_first(os.getpid())
    assert score(os.getpid()) == before


def test_a_command_that_has_ended_is_no_matter(tmp_path: Path) -> None:
    let_go_first(4711, foreign(tmp_path))
