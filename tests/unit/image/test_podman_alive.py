"""What the kubelet restarts Podman for: it answers no ping, or no list for longer than any work."""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tryitnow.podman.calls import CHECKPOINT_SECONDS

PROGRAM = Path(__file__).parents[3] / "image" / "podman-alive"
PING, LIST = "/_ping", "/v4.0.0/libpod/containers/json?all=true"

MINUTE = 60.0


class FakePodman(socketserver.ThreadingUnixStreamServer):
    """A socket that answers some paths, and hangs for all others."""

    daemon_threads = True

    def __init__(self, path: Path, answered: set[str]) -> None:
        self.answered = answered
        self.ended = threading.Event()
        super().__init__(str(path), _Request)


class _Request(socketserver.StreamRequestHandler):
    server: FakePodman

    def handle(self) -> None:
        path = self.rfile.readline().split()[1].decode()
        if path in self.server.answered:
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n[]")
        else:
            self.server.ended.wait()


@pytest.fixture
def answered() -> set[str]:
    """The paths that Podman answers."""
    return {PING, LIST}


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """The file whose age is that of the last list."""
    return tmp_path / "listed"


@pytest.fixture
def alive(tmp_path: Path, listed: Path, answered: set[str]) -> Iterator[Callable[[], bool]]:
    path = tmp_path / "podman.sock"
    script = PROGRAM.read_text()
    for name, value in (("SOCKET", f'"{path}"'), ("LISTED", f'"{listed}"'), ("SECONDS", "0.5")):
        line = next(line for line in script.splitlines() if line.startswith(f"{name} = "))
        script = script.replace(line, f"{name} = {value}")

    def run() -> bool:
        return subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

    with FakePodman(path, answered) as podman:
        threading.Thread(target=podman.serve_forever, args=(0.05,), daemon=True).start()
        yield run
        podman.ended.set()
        podman.shutdown()


def age(file: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(file, (then, then))


def test_a_podman_that_answers_is_alive(alive: Callable[[], bool], listed: Path) -> None:
    assert alive()
    age(listed, 60 * MINUTE)
    assert alive()
    assert time.time() - listed.stat().st_mtime < MINUTE


def test_one_that_answers_no_ping_is_not(alive: Callable[[], bool], answered: set[str]) -> None:
    answered.remove(PING)
    assert not alive()


def test_one_that_is_gone_is_not(alive: Callable[[], bool], tmp_path: Path) -> None:
    (tmp_path / "podman.sock").unlink()
    assert not alive()


def test_a_list_may_wait_for_the_longest_checkpoint_and_no_longer(
    alive: Callable[[], bool], answered: set[str], listed: Path
) -> None:
    answered.remove(LIST)
    assert alive(), "a Podman that was just started has the whole time"
    age(listed, CHECKPOINT_SECONDS + MINUTE)
    assert alive()
    age(listed, 2 * CHECKPOINT_SECONDS + MINUTE)
    assert not alive()
    answered.add(LIST)
    assert alive()
