"""The end of a node: its demos' processes end with the agent, and only then."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tryitnow.agent.upkeep import shutdown
from tryitnow.agent.upkeep.shutdown import end_processes, end_with_node
from tryitnow.commands import Ended

STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
WAIT = "print('here', flush=True); sys.stdin.read()"


@contextmanager
def group(directory: Path, *, ignores: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A cgroup with a process in a group below it; a plain directory, so nothing updates it."""
    own = directory / "libpod-c0ffee" / "container"
    own.mkdir(parents=True)
    script = (STUBBORN if ignores else "import sys; ") + WAIT
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        (own / "cgroup.procs").write_text(f"{process.pid}\n")
        (directory / "cgroup.procs").write_text("")
        try:
            yield process
        finally:
            process.kill()


async def test_what_ends_by_itself_is_not_waited_for(tmp_path: Path) -> None:
    with group(tmp_path) as process:
        began = time.monotonic()
        await end_processes(tmp_path, 60)
        assert time.monotonic() - began < 30
        assert process.wait() == -15
    assert (tmp_path / "cgroup.kill").read_text() == "1", "also what was forked meanwhile"


async def test_what_ignores_the_request_is_killed_in_time(tmp_path: Path) -> None:
    with group(tmp_path, ignores=True) as process:
        await end_processes(tmp_path, 0.3)
        assert process.poll() is None, "the kernel does it, by the file that was written"
    assert (tmp_path / "cgroup.kill").read_text() == "1"


async def test_a_node_without_containers_has_nothing_to_end(tmp_path: Path) -> None:
    await end_processes(tmp_path / "gone", 5)


@pytest.mark.parametrize(
    ("systemd", "logind", "ends"),
    [
        ("running\n", "b false\n", False),
        ("degraded\n", "b false\n", False),
        ("", "", False),
        ("stopping\n", "b false\n", True),
        ("running\n", "b true\n", True),
    ],
    ids=["rollout", "degraded", "no systemd", "shutdown", "graceful shutdown of the kubelet"],
)
async def test_demos_outlive_the_agent_but_not_the_node(
    monkeypatch: pytest.MonkeyPatch, systemd: str, logind: str, *, ends: bool
) -> None:
    ended: list[Path] = []

    async def answer(*argv: str, seconds: float) -> Ended:
        del seconds
        assert argv[:3] == ("nsenter", "--target=1", "--mount")
        return Ended(0, systemd if "systemctl" in argv else logind, "")

    async def end(group: Path, grace_seconds: float) -> None:
        del grace_seconds
        ended.append(group)

    monkeypatch.setattr(shutdown, "run", answer)
    monkeypatch.setattr(shutdown, "end_processes", end)
    await end_with_node()
    assert ended == ([shutdown.CONTAINERS, shutdown.COMMANDS] if ends else [])


async def test_a_node_that_cannot_be_asked_keeps_its_demos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nobody(*argv: str, seconds: float) -> Ended:
        msg = f"{argv} did not answer within {seconds} s"
        raise TimeoutError(msg)

    monkeypatch.setattr(shutdown, "run", nobody)
    await end_with_node()
