"""What Podman's service says of itself, and what is done by its command."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest

from tests.unit.podman.libpod import FakeLibpod
from tests.unit.processes import begun, ended, hanging_script
from tryitnow.podman import service
from tryitnow.podman.client import Podman, ServiceInfo
from tryitnow.podman.errors import (
    NodeLimitError,
    PodmanBusyError,
    PodmanError,
    PodmanUnreachableError,
)
from tryitnow.settings import PodmanSettings

INFO = {
    "host": {"security": {"selinuxEnabled": True}, "freeLocks": 2000, "eventLogger": "file"},
    "store": {"graphRoot": "/var/lib/containers/storage", "runRoot": "/run/containers/storage"},
    "version": {"Version": "5.8.6"},
}


async def test_the_service_tells_where_it_keeps_things(libpod: FakeLibpod, podman: Podman) -> None:
    libpod.on_json("GET", "/info", INFO)
    assert await podman.info() == ServiceInfo(
        version="5.8.6",
        graph_root=Path("/var/lib/containers/storage"),
        run_root=Path("/run/containers/storage"),
        selinux=True,
        free_locks=2000,
        event_logger="file",
    )
    assert await podman.storage_root() == Path("/var/lib/containers/storage")


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in which a nsenter that is none leaves how it was called."""
    return pretend(tmp_path, monkeypatch, "exit 0")


def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    file, program = tmp_path / "called", tmp_path / "bin/nsenter"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\necho "$@" > {file}\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return file


@pytest.mark.usefixtures("libpod")
async def test_rules_are_set_again_where_the_service_runs(podman: Podman, called: Path) -> None:
    await podman.reload_network()
    words = called.read_text().split()
    where = [f"--target={os.getpid()}", "--mount", "--pid"]
    assert words[:3] == where, "this process plays the service, and is in its own network"
    assert words[-4:] == ["podman", "network", "reload", "--all"]
    await podman.reload_network("infra1", "infra2")
    assert called.read_text().split()[-4:] == ["network", "reload", "infra1", "infra2"]


@pytest.mark.usefixtures("libpod")
async def test_a_refusal_is_reported_in_podmans_words(
    podman: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, "echo 'Error: no container with that name' >&2; exit 125")
    with pytest.raises(PodmanError, match=r"`podman network reload x` failed: Error: no container"):
        await podman.reload_network("x")
    pretend(tmp_path, monkeypatch, "echo 'Error: netavark: xtables lock' >&2; exit 125")
    with pytest.raises(NodeLimitError) as caught:
        await podman.reload_network()
    assert caught.value.limit == "FirewallBusy"


@pytest.mark.usefixtures("libpod")
async def test_a_command_that_hangs_is_ended(
    podman: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "RELOAD_SECONDS", 0.1)
    pretend(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(PodmanBusyError, match="did not end"):
        await podman.reload_network()


@pytest.mark.usefixtures("libpod")
async def test_what_a_cancelled_reload_has_started_is_ended_too(
    podman: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nsenter starts Podman as a child of its own where it enters a PID namespace."""
    child = tmp_path / "child"
    pretend(tmp_path, monkeypatch, hanging_script(child))
    reloading = asyncio.create_task(podman.reload_network())
    await begun(child, 5)
    began = time.monotonic()
    reloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reloading
    assert time.monotonic() - began < 1
    await ended(child, 5)


@pytest.mark.usefixtures("libpod")
async def test_without_nsenter_it_says_what_is_missing(
    podman: Podman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PodmanError, match="util-linux"):
        await podman.reload_network()


async def test_a_service_of_another_machine_cannot_be_entered() -> None:
    podman = Podman(PodmanSettings(socket="tcp://10.0.0.1:8080"))
    with pytest.raises(PodmanError, match="no socket of this node"):
        await podman.reload_network()
    podman.close()


async def test_without_a_service_it_is_unreachable(tmp_path: Path) -> None:
    podman = Podman(PodmanSettings(socket=f"unix://{tmp_path}/nobody.sock"))
    with pytest.raises(PodmanUnreachableError, match="No such file"):
        await podman.reload_network()
    podman.close()


@pytest.mark.usefixtures("libpod")
async def test_a_service_that_is_not_seen_from_here_is_reported(
    podman: Podman, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a Pod with a PID namespace of its own."""

    def nobody(*_: int) -> bytes:
        return bytes(12)

    monkeypatch.setattr(socket.socket, "getsockopt", nobody)
    with pytest.raises(PodmanError, match="hostPID"):
        await podman.reload_network()


@pytest.mark.parametrize(
    ("cmdline", "command"),
    [
        (["podman", "system", "service", "--time=0", "unix:///run/x"], ["podman"]),
        (
            ["/usr/bin/podman", "--root", "/data", "--runroot=/run/x", "system", "service"],
            ["/usr/bin/podman", "--root", "/data", "--runroot=/run/x"],
        ),
        (["/usr/lib/systemd/systemd", "--system"], ["podman"]),
        (["/sbin/init"], ["podman"]),
    ],
    ids=["Podman", "with options", "systemd", "init"],
)
def test_the_command_has_the_options_and_the_environment_of_the_service(
    tmp_path: Path, cmdline: list[str], command: list[str]
) -> None:
    of = tmp_path / "7"
    of.mkdir()
    (of / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in cmdline))
    (of / "environ").write_bytes(b"CONTAINERS_CONF=/etc/own.conf\0EMPTY=\0")
    process = service.read_process(7, tmp_path)
    assert list(process.command) == command
    assert process.env["CONTAINERS_CONF"] == "/etc/own.conf"
    assert "/usr/bin" in process.env["PATH"], "systemd has none"


def test_a_service_that_has_ended_is_reported(tmp_path: Path) -> None:
    with pytest.raises(PodmanError, match="cannot be examined"):
        service.read_process(7, tmp_path)
