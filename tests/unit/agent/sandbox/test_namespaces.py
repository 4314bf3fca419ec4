"""Names of hosts and /etc/hosts, in the namespaces and files of a real process."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tryitnow.agent.sandbox.namespaces import HOST_NAME_MAX, Hosts, host_name_of, socket_factory

GONE = 1 << 22
"""More than the kernel's greatest PID."""

_CONTAINER = """
import ctypes, os, socket, sys
assert ctypes.CDLL(None).unshare(0x04000000 | 0x40000000) == 0  # a host and a network of its own
os.chroot(sys.argv[1])
print("there", flush=True)
for _ in sys.stdin:
    print(socket.gethostname(), flush=True)
"""


class Container:
    """A process with a root, a host name and a network of its own."""

    def __init__(self, process: subprocess.Popen[str], root: Path) -> None:
        self._process = process
        self.pid = process.pid
        self.root = root

    def hostname(self) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/hostname").write_text("of the checkpoint, and longer\n")
    with subprocess.Popen(
        [sys.executable, "-c", _CONTAINER, root],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield Container(process, root)
        process.kill()


# -- names ----------------------------------------------------------------------------------------


def test_a_host_has_another_name_inside_alone(container: Container) -> None:
    ours = socket.gethostname()
    Hosts().set_name(container.pid, "annas-demo")
    assert container.hostname() == "annas-demo"
    assert socket.gethostname() == ours


def test_the_nodes_own_host_keeps_its_name() -> None:
    """A process that ended, whose number another process of the node has by now."""
    ours = socket.gethostname()
    with pytest.raises(OSError, match="in no sandbox any more"):
        Hosts().set_name(os.getpid(), "annas-demo")
    assert socket.gethostname() == ours


def test_a_process_that_is_gone_is_an_error() -> None:
    hosts = Hosts()
    with pytest.raises(OSError, match="No such"):
        hosts.set_name(GONE, "annas-demo")
    with pytest.raises(OSError, match="No such"):
        hosts.write_files(GONE, "annas-demo")
    with pytest.raises(OSError, match="No such"):
        hosts.carry(GONE, "192.0.2.1 partner\n")
    assert hosts.read(GONE) == ""


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("annas-demo", "annas-demo"),
        ("x" * 100, "x" * HOST_NAME_MAX),
        ("x" * 62 + "-y", "x" * 62),
        ("x" * 62 + ".y", "x" * 62),
    ],
)
def test_a_long_name_is_cut_to_what_a_host_may_have(name: str, host: str) -> None:
    assert host_name_of(name) == host


def test_only_processes_of_one_sandbox_share_its_name(container: Container) -> None:
    hosts = Hosts()
    assert hosts.is_shared(container.pid, container.pid)
    assert not hosts.is_shared(os.getpid(), container.pid)
    assert not hosts.is_shared(GONE, container.pid)


# -- files ----------------------------------------------------------------------------------------


def test_a_containers_files_know_the_name(container: Container) -> None:
    for _ in range(2):
        Hosts().write_files(container.pid, "annas-demo")
    assert (container.root / "etc/hostname").read_text() == "annas-demo\n"
    assert (container.root / "etc/hosts").read_text() == (
        "127.0.0.1 localhost\n127.0.1.1 annas-demo\n"
    )


def test_lines_of_the_application_are_brought_back_once(container: Container) -> None:
    (container.root / "etc/hosts").write_text("127.0.0.1 localhost")  # without an end of line
    at_the_checkpoint = (
        "127.0.0.1\tlocalhost localhost.localdomain\n"
        "# written by the entrypoint\n"
        "192.0.2.1 partner # an API\n"
        "10.88.0.7 0123456789ab shop\n"
        "10.89.0.7 shop\n"
        "10.0.2.2 host.containers.internal\n"
        "127.0.1.1 the-build\n"
        "2001:db8::1 partner6\n"
        "no address\n"
        "\n"
    )
    for _ in range(2):
        Hosts().carry(container.pid, at_the_checkpoint)
    assert (container.root / "etc/hosts").read_text() == (
        "127.0.0.1 localhost\n192.0.2.1 partner # an API\n2001:db8::1 partner6\nno address\n"
    )


def test_what_is_no_utf_8_is_brought_back_as_it_was(container: Container) -> None:
    (container.root / "etc/hosts").write_bytes(b"192.0.2.1 caf\xe9\n")
    found = Hosts().read(container.pid)
    (container.root / "etc/hosts").write_text("")
    Hosts().carry(container.pid, found)
    assert (container.root / "etc/hosts").read_bytes() == b"192.0.2.1 caf\xe9\n"


def test_an_image_without_these_files_is_an_error_and_nothing_is_made(
    container: Container,
) -> None:
    (container.root / "etc/hostname").unlink()
    with pytest.raises(FileNotFoundError):
        Hosts().write_files(container.pid, "annas-demo")
    assert not (container.root / "etc/hostname").exists()


@pytest.mark.parametrize("file", ["hosts", "hostname"])
def test_a_link_of_an_image_leads_to_no_file_of_the_node(
    container: Container, tmp_path: Path, file: str
) -> None:
    theirs = tmp_path / "of-the-node"
    theirs.write_text("of the node")
    (container.root / "etc" / file).unlink()
    (container.root / "etc" / file).symlink_to(theirs)
    with pytest.raises(OSError, match="symbolic links"):
        Hosts().write_files(container.pid, "annas-demo")
    assert theirs.read_text() == "of the node"
    if file == "hosts":
        assert Hosts().read(container.pid) == ""


def test_a_link_in_the_place_of_etc_is_not_followed(container: Container, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hostname").write_text("of the node")
    (container.root / "etc").rename(container.root / "etc-before")
    (container.root / "etc").symlink_to(tmp_path / "etc")
    with pytest.raises(OSError, match="Not a directory"):
        Hosts().write_files(container.pid, "annas-demo")
    assert (tmp_path / "etc/hostname").read_text() == "of the node"


def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(container: Container) -> None:
    (container.root / "etc/hostname").unlink()
    os.mkfifo(container.root / "etc/hostname")
    with pytest.raises(OSError, match="No such device"):
        Hosts().write_files(container.pid, "annas-demo")


# -- sockets --------------------------------------------------------------------------------------


def test_a_socket_is_in_the_network_of_the_sandbox(container: Container) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.getsockname()
        inside = socket_factory(container.pid)((socket.AF_INET, socket.SOCK_STREAM, 6, "", address))
        with inside, pytest.raises(OSError, match=r"unreachable|refused"):
            inside.connect(address)
        with socket.create_connection(address):
            pass  # and this thread is back in its own


def test_no_socket_is_made_in_the_nodes_own_network() -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))
    with pytest.raises(OSError, match="in no sandbox any more"):
        socket_factory(os.getpid())(address)


def test_hosts_of_egress_are_replaced_and_the_other_lines_stay(container: Container) -> None:
    file = container.root / "etc/hosts"
    inode = file.stat().st_ino
    one, two = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("192.0.2.2")
    Hosts().set_egress(container.pid, [("api.example.com", one), ("api.example.com", two)])
    assert file.read_text().splitlines() == [
        "127.0.0.1 localhost",
        "192.0.2.1\tapi.example.com # spec.network.egress",
        "192.0.2.2\tapi.example.com # spec.network.egress",
    ]
    Hosts().set_egress(container.pid, [("api.example.com", two)])
    assert file.read_text().count("api.example.com") == 1
    Hosts().set_egress(container.pid, [])
    assert file.read_text() == "127.0.0.1 localhost\n"
    assert file.stat().st_ino == inode, "the containers share the file"


def test_hosts_of_egress_are_not_carried_over_a_checkpoint(container: Container) -> None:
    """Their addresses are those of the checkpoint's time."""
    at_the_checkpoint = "192.0.2.1\tapi.example.com # spec.network.egress\n192.0.2.9 partner\n"
    Hosts().carry(container.pid, at_the_checkpoint)
    assert (container.root / "etc/hosts").read_text() == "127.0.0.1 localhost\n192.0.2.9 partner\n"
