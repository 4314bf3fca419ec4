"""Looking at a node: what is missing is recorded, and nothing raises."""

from __future__ import annotations

import http.server
import json
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Protocol

import pytest

from tryitnow.doctor import examine, versions
from tryitnow.doctor.checks import judge
from tryitnow.doctor.facts import gather
from tryitnow.doctor.host import Host, podmans_host
from tryitnow.doctor.network import strays
from tryitnow.doctor.timeouts import Timeouts
from tryitnow.settings import AgentSettings, agent_settings

LIMIT = timedelta(seconds=5)

MakeSettings = Callable[..., AgentSettings]
PutProgram = Callable[[str, str], None]


class Serve(Protocol):
    """Starts a service that answers so."""

    def __call__(
        self, *, status: int = 200, body: object = ..., containers: Sequence[object] = ...
    ) -> None: ...


INFO = {
    "host": {
        "ociRuntime": {"name": "crun", "path": "crun", "version": "crun version 1.28\n+CRIU"},
        "security": {"rootless": False, "selinuxEnabled": False},
        "freeLocks": 2036,
    },
    "store": {
        "graphDriverName": "overlay",
        "graphRoot": "/var/lib/containers/storage",
        "containerStore": {"number": 9, "paused": 0, "running": 6, "stopped": 3},
    },
    "version": {"Version": "5.8.6"},
}

NETWORK = {
    "name": "podman",
    "driver": "bridge",
    "network_interface": "podman0",
    "subnets": [
        {"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"},
        {"subnet": "fd00::/64", "gateway": "fd00::1"},
    ],
    "ipv6_enabled": True,
}


CONTAINERS = [
    # The parts that tell them apart.
    {"Id": "a" * 64, "IsInfra": True, "Names": ["a0752c09283a-infra"], "State": "running"},
    {"Id": "b" * 64, "IsInfra": False, "Names": ["tryitnow_default_shop"], "State": "exited"},
]


@pytest.fixture
def settings(tmp_path: Path) -> MakeSettings:
    def make(**changes: str) -> AgentSettings:
        env = {
            "NODE_NAME": "node-1",
            "NODE_ADDRESS": "192.0.2.1",
            "PODMAN_SOCKET": f"unix://{tmp_path}/podman.sock",
            "CHECKPOINT_PATH": f"{tmp_path}/checkpoints",
            **changes,
        }
        return agent_settings(env)

    return make


@pytest.fixture
def program(tmp_path: Path) -> PutProgram:
    """Puts a made-up program on the node."""
    directory = tmp_path / "bin"
    directory.mkdir()

    def make(name: str, script: str) -> None:
        path = directory / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return make


@pytest.fixture
def bare_host(tmp_path: Path) -> Host:
    """A node without any program but those that a test puts there."""
    return Host(
        root=tmp_path,
        proc=tmp_path / "proc",
        path=str(tmp_path / "bin"),
        node_root=tmp_path / "node",
    )


@pytest.fixture
def podman_service(tmp_path: Path) -> Iterator[Serve]:
    """Answers Podman's /info, its network and its containers at the socket of the settings.

    Of several lists of containers each is the answer once, and the last one from then on.
    """
    servers: list[socketserver.BaseServer] = []

    def serve(
        *, status: int = 200, body: object = INFO, containers: Sequence[object] = (CONTAINERS,)
    ) -> None:
        lists = list(containers)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = {
                    "info": body,
                    "networks/podman/json": NETWORK,
                    "containers/json?all=True": lists[0],
                }
                asked = self.path.partition("/libpod/")[2]
                if asked.startswith("containers/") and len(lists) > 1:
                    lists.pop(0)
                content = b"out of order"
                if status == 200:
                    content = json.dumps(known.get(asked, {"cause": "unknown"})).encode()
                self.send_response(status if asked in known else 404)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def address_string(self) -> str:
                return "unix"

            def log_message(self, *args: object) -> None:
                pass

        server = socketserver.ThreadingUnixStreamServer(str(tmp_path / "podman.sock"), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


async def test_this_very_machine_can_be_checked_whatever_it_lacks(settings: MakeSettings) -> None:
    examination = await examine(settings())
    assert examination.checks
    assert examination.versions.kernel
    names = [check.name for check in examination.checks]
    assert len(names) == len(set(names))


async def test_a_machine_with_nothing_on_it_is_described_and_judged(
    settings: MakeSettings, bare_host: Host
) -> None:
    facts = await gather(settings(), bare_host)
    assert facts.podman is None
    assert "there is no socket at" in facts.podman_problem
    assert facts.criu.missing
    assert facts.podman_command.missing
    assert facts.iptables.missing
    assert facts.distribution == ()
    assert judge(facts)


async def test_what_podman_says_is_taken_from_its_socket(
    settings: MakeSettings,
    bare_host: Host,
    podman_service: Serve,
    program: PutProgram,
    tmp_path: Path,
) -> None:
    podman_service()
    program("criu", "echo Version: 4.2.1")
    (tmp_path / "etc/criu").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text('ID=ubuntu\nID_LIKE="debian"\nNAME="U = 1"\n')
    (tmp_path / "etc/criu/crun.conf").write_text("manage-cgroups=ignore\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("flags\t\t: fpu xsave avx\n")
    facts = await gather(settings(), bare_host)
    assert facts.podman_problem == ""
    assert facts.podman is not None
    assert facts.podman.version == "5.8.6"
    assert facts.podman.storage_driver == "overlay"
    assert facts.podman.storage_path == "/var/lib/containers/storage"
    assert (facts.podman.free_locks, facts.podman.containers) == (2036, 9)
    assert facts.podman.container_ids == frozenset({"a" * 64, "b" * 64})
    assert facts.podman.networks == (IPv4Network("10.88.0.0/16"),)
    assert facts.podman.bridge == "podman0"
    assert facts.storage is not None
    assert facts.storage.free_bytes
    assert facts.storage.path == Path("/var/lib/containers/storage")
    assert facts.distribution == ("ubuntu", "debian")
    assert facts.criu_config == "manage-cgroups=ignore\n"
    found = versions(facts)
    assert (found.criu, found.podman, found.runtime) == ("4.2.1", "5.8.6", "crun 1.28")
    assert found.cpu_features == ("avx", "xsave")


@pytest.mark.parametrize(
    ("second", "is_stray"),
    [(CONTAINERS, True), ([*CONTAINERS, {"Id": "c" * 64}], False), ({"cause": "gone"}, False)],
    ids=["still unknown", "made meanwhile", "not told"],
)
async def test_a_conmon_that_podman_does_not_know_is_reconciled_twice(
    settings: MakeSettings,
    bare_host: Host,
    podman_service: Serve,
    tmp_path: Path,
    second: object,
    *,
    is_stray: bool,
) -> None:
    podman_service(containers=(CONTAINERS, second))
    (tmp_path / "proc/470").mkdir(parents=True)
    (tmp_path / "proc/470/comm").write_text("conmon\n")
    arguments = ("conmon", "-c", "c" * 64, "--exit-dir", "/run/libpod/exits", "")
    (tmp_path / "proc/470/cmdline").write_text("\0".join(arguments))
    facts = await gather(settings(), bare_host)
    assert facts.podman is not None
    stray = strays(facts.network.conmons, facts.podman.container_ids)
    assert [process.pid for process in stray] == ([470] if is_stray else [])


async def test_a_podman_that_cannot_list_its_containers_is_no_problem(
    settings: MakeSettings, bare_host: Host, podman_service: Serve
) -> None:
    # 500, `no container with ID … found in database`, when one goes away meanwhile.
    podman_service(containers=({"cause": "no such container"},))
    facts = await gather(settings(), bare_host)
    assert facts.podman is not None
    assert facts.podman.container_ids is None


async def test_a_podman_that_answers_with_an_error_is_a_problem_and_no_crash(
    settings: MakeSettings, bare_host: Host, podman_service: Serve
) -> None:
    podman_service(status=500)
    facts = await gather(settings(), bare_host)
    assert facts.podman is None
    assert "out of order" in facts.podman_problem


@pytest.mark.parametrize("body", [[], {}, {"host": None}, {"version": "5"}])
async def test_an_answer_of_another_shape_is_judged_and_no_crash(
    settings: MakeSettings, bare_host: Host, podman_service: Serve, body: object
) -> None:
    podman_service(body=body)
    assert judge(await gather(settings(), bare_host))


@pytest.mark.parametrize(
    "begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"], ids=["silent", "half"]
)
async def test_a_podman_that_listens_and_does_not_answer_is_busy(
    settings: MakeSettings, bare_host: Host, tmp_path: Path, begun: bytes
) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(begun)
            asked.wait(10)

    asked = threading.Event()
    waits = Timeouts(
        command=timedelta(seconds=5), podman=timedelta(seconds=0.1), criu_check=timedelta(seconds=5)
    )
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "podman.sock"), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        facts = await gather(settings(), bare_host, waits)
        asked.set()
        server.shutdown()
    assert facts.podman is None
    assert facts.podman_timed_out
    assert facts.podman_problem == "Podman did not answer within 0.1 s"


async def test_criu_check_has_more_time_than_a_version(
    settings: MakeSettings, bare_host: Host, program: PutProgram
) -> None:
    program("criu", 'case "$1" in check) exec /bin/sleep 1;; *) exec /bin/sleep 30;; esac')
    waits = Timeouts(
        command=timedelta(seconds=0.1),
        podman=timedelta(seconds=5),
        criu_check=timedelta(seconds=5),
    )
    facts = await gather(settings(), bare_host, waits)
    assert facts.criu.timed_out
    assert facts.criu_check.ok


async def test_a_podman_that_too_many_wait_for_is_busy(
    settings: MakeSettings, bare_host: Host, tmp_path: Path
) -> None:
    path = str(tmp_path / "podman.sock")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as waiting:
        listening.bind(path)
        listening.listen(0)  # which leaves room for one
        waiting.connect(path)
        facts = await gather(settings(), bare_host)
    assert facts.podman_timed_out


async def test_a_socket_that_nobody_listens_at_is_reported_from_none(
    settings: MakeSettings, bare_host: Host, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "podman.sock"))
    facts = await gather(settings(), bare_host)
    assert facts.podman_problem.startswith("no process listens at the socket")
    assert not facts.podman_timed_out


async def test_a_missing_directory_is_measured_where_it_would_be(
    settings: MakeSettings, bare_host: Host, tmp_path: Path
) -> None:
    facts = await gather(settings(CHECKPOINT_PATH=f"{tmp_path}/a/b/c"), bare_host)
    assert not facts.directory.exists
    assert facts.directory.writable
    assert facts.disk is not None
    assert facts.disk.free_bytes
    assert not (tmp_path / "a").exists()


async def test_archives_are_counted(
    settings: MakeSettings, bare_host: Host, tmp_path: Path
) -> None:
    directory = tmp_path / "checkpoints"
    directory.mkdir()
    for name in ("a_shop_1.tar.zst", "a_shop_1.md", "a_wiki_2.tar", ".a_shop_3.tar.zst.new"):
        (directory / name).touch()
    assert (await gather(settings(), bare_host)).directory.archives == 2


async def test_what_the_node_is_to_hold_comes_from_the_settings(
    settings: MakeSettings, bare_host: Host
) -> None:
    wanted = (
        await gather(settings(MAX_INSTANCES="40", PORT_RANGE="20000-20019"), bare_host)
    ).wanted
    assert wanted.demos == 20
    assert wanted.ports == range(20000, 20020)
    assert wanted.disk_reserve_bytes == 2 << 30


async def test_the_directorys_permissions_are_seen(
    settings: MakeSettings, bare_host: Host, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints").chmod(0o750)
    found = (await gather(settings(), bare_host)).directory
    assert (found.exists, found.is_directory, found.mode) == (True, True, 0o750)


async def test_a_path_below_a_file_is_a_problem_and_no_crash(
    settings: MakeSettings, bare_host: Host, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    facts = await gather(settings(CHECKPOINT_PATH=f"{tmp_path}/file/x"), bare_host)
    assert facts.directory.problem == "Not a directory"


@pytest.mark.parametrize(
    ("ldconfig", "ldd", "has_it"),
    [
        ("echo '  libcriu.so.2 (libc6,x86-64) => /usr/lib/libcriu.so.2'", "exit 0", True),
        ("echo '  libc.so.6 => /usr/lib/libc.so.6'", "exit 0", False),
        # A static runtime holds the library itself.
        ("echo '  libc.so.6 => /usr/lib/libc.so.6'", "exit 1", True),
        # musl's ldconfig cannot tell: then nothing is claimed to be missing.
        ("exit 1", "exit 0", True),
        # A busy node tells nothing.
        ("exec /bin/sleep 30", "exit 0", None),
        ("echo '  libc.so.6 => /usr/lib/libc.so.6'", "exec /bin/sleep 30", None),
    ],
)
async def test_whether_the_runtime_has_libcriu(
    settings: MakeSettings,
    bare_host: Host,
    podman_service: Serve,
    program: PutProgram,
    ldconfig: str,
    ldd: str,
    *,
    has_it: bool | None,
) -> None:
    podman_service()
    program("ldconfig", ldconfig)
    program("ldd", ldd)
    command = timedelta(seconds=5 if has_it is not None else 0.3)
    waits = Timeouts(command=command, podman=LIMIT, criu_check=LIMIT)
    assert (await gather(settings(), bare_host, waits)).libcriu is has_it


# -- running programs of the node ------------------------------------------------------------------


def test_output_of_both_streams_and_the_status_are_kept(
    bare_host: Host, program: PutProgram
) -> None:
    program("criu", "echo one; echo two >&2; exit 3")
    outcome = bare_host.run("criu", limit=LIMIT)
    assert (outcome.status, outcome.output, outcome.ok) == (3, "one\ntwo", False)


def test_a_program_that_hangs_is_ended(bare_host: Host, program: PutProgram) -> None:
    program("criu", "exec /bin/sleep 30")
    started = time.monotonic()
    outcome = bare_host.run("criu", limit=timedelta(seconds=0.1))
    assert time.monotonic() - started < 5
    assert (outcome.status, outcome.output) == (None, "criu did not end within 0.1 s")
    assert outcome.timed_out
    assert not outcome.missing


def test_a_program_that_may_not_be_run_is_not_called_missing(
    bare_host: Host, program: PutProgram, tmp_path: Path
) -> None:
    program("criu", "")
    (tmp_path / "bin/criu").chmod(0o600)
    outcome = bare_host.run("criu", limit=LIMIT)
    assert outcome.output == "criu cannot be run: Permission denied"
    assert not outcome.missing


def test_from_inside_a_container_a_missing_program_is_reported_from_a_missing_way_out(
    tmp_path: Path,
) -> None:
    # env(1) ends as nsenter(1) does when there is no such program.
    inside = Host(root=Path("/proc/1/root"), enter=("/usr/bin/env",), path=str(tmp_path))
    assert inside.run("criu", limit=LIMIT).missing
    locked_in = Host(enter=("nsenter",), path=str(tmp_path))
    outcome = locked_in.run("criu", limit=LIMIT)
    assert outcome.output == "nsenter is missing, so criu cannot be reached"
    assert not outcome.missing


def in_namespaces(proc: Path, **mounts: str) -> Path:
    """A /proc in which processes are in these mount namespaces."""
    for process, namespace in mounts.items():
        directory = proc / process.removeprefix("pid") / "ns"
        directory.mkdir(parents=True)
        (directory / "mnt").symlink_to(namespace)
    return proc


def test_programs_are_looked_for_where_podman_runs(podman_service: Serve, tmp_path: Path) -> None:
    podman_service()
    url, pid = f"unix://{tmp_path}/podman.sock", f"pid{os.getpid()}"
    here = in_namespaces(tmp_path / "here", self="mnt:[1]", **{pid: "mnt:[1]"})
    assert podmans_host(url, here) == Host(pid=os.getpid(), proc=here)
    elsewhere = in_namespaces(tmp_path / "elsewhere", self="mnt:[1]", **{pid: "mnt:[2]"})
    found = podmans_host(url, elsewhere)
    assert found.root == elsewhere / f"{os.getpid()}/root"
    assert found.enter[:3] == ("nsenter", f"--target={os.getpid()}", "--mount")


def test_programs_are_looked_for_here_when_nobody_listens(tmp_path: Path) -> None:
    assert podmans_host(f"unix://{tmp_path}/podman.sock") == Host()
