"""Looking at the node's network: tables as the kernel writes them, CNI as plugins document it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tests.unit.doctor.conftest import DEMO
from tryitnow.doctor.host import Host, Process
from tryitnow.doctor.network import Listener, Route, examine_network, seen_twice, strays

PORTS = range(20000, 21000)

NODES_NETWORK = "net:[4026531840]"

TCP_HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode\n"
)
TCP = TCP_HEAD + (
    # 127.0.0.1:20080 listens; 0.0.0.0:20100 listens; 0.0.0.0:22 listens;
    "   0: 0100007F:4E70 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 "
    "92315 2 00000000c7240c4b 100 0 0 10 0\n"
    "   1: 00000000:4E84 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 "
    "92316 1 00000000775c79ae 100 0 0 10 0\n"
    "   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 "
    "92317 1 00000000775c79af 100 0 0 10 0\n"
    # 192.0.2.2:20200 is connected to somebody.
    "   3: 020200C0:4EE8 070200C0:01BB 01 00000000:00000000 00:00000000 00000000     0        0 "
    "92318 1 00000000775c79b0 20 4 0 10 -1\n"
)
TCP6 = (
    "  sl  local_address                         remote_address                        st tx_queue "
    "rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    # [::]:20300
    "   0: 00000000000000000000000000000000:4F4C 00000000000000000000000000000000:0000 0A "
    "00000000:00000000 00:00000000 00000000     0        0 92319 1 0000000000000000 100 0 0 10 0\n"
)
ROUTES = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT        \n"
    "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0                                 \n"
    "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0                                 \n"
    "podman0\t0000580A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0                              \n"
    "*\t0001F40A\t00000000\t0001\t0\t0\t0\tC0FFFFFF\t0\t0\t0                                    \n"
)
CONTAINERDS_SAMPLE = {
    "cniVersion": "1.0.0",
    "name": "containerd-net",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.88.0.0/16"}], [{"subnet": "2001:4860:4860::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "proc/self/net").mkdir(parents=True)
    (tmp_path / "proc/self/ns").mkdir()
    (tmp_path / "proc/self/ns/net").symlink_to(NODES_NETWORK)
    (tmp_path / "node/etc/cni/net.d").mkdir(parents=True)
    return Host(root=tmp_path, proc=tmp_path / "proc", node_root=tmp_path / "node")


def hold(root: Path, pid: int, name: str, *inodes: int) -> None:
    """A process that has these sockets open."""
    files = root / f"proc/{pid}/fd"
    files.mkdir(parents=True)
    (root / f"proc/{pid}/comm").write_text(f"{name}\n")
    (files / "0").symlink_to("/dev/null")
    (files / "1").symlink_to("pipe:[92315]")
    for number, inode in enumerate(inodes, start=3):
        (files / str(number)).symlink_to(f"socket:[{inode}]")


def watch(
    root: Path, pid: int, container: str, *inodes: int, network: str = NODES_NETWORK,
    exit_dir: str = "/run/libpod/exits", more: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """A conmon, with the arguments that Podman 5.8 gives it (shortened)."""
    hold(root, pid, "conmon", *inodes)
    arguments = [
        "/usr/bin/conmon", "--api-version", "1", "-c", container, "-u", container, "-r",
        "/usr/bin/crun", "-b", f"/var/lib/containers/storage/overlay-containers/{container}",
        "-n", "a0752c09283a-infra", "--exit-dir", exit_dir, "--full-attach", *more,
        "--runtime-arg", "--log-format=json",
    ]  # fmt: skip
    (root / f"proc/{pid}/cmdline").write_text("\0".join([*arguments, ""]))
    (root / f"proc/{pid}/ns").mkdir()
    (root / f"proc/{pid}/ns/net").symlink_to(network)


def configure(root: Path, name: str, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "node/etc/cni/net.d" / name).write_text(text)


# -- listeners -------------------------------------------------------------------------------------


def test_listeners_on_ports_of_demos_are_found_with_their_processes(
    host: Host, tmp_path: Path
) -> None:
    (tmp_path / "proc/self/net/tcp").write_text(TCP)
    (tmp_path / "proc/self/net/tcp6").write_text(TCP6)
    hold(tmp_path, 77, "nginx", 92315, 92317)
    hold(tmp_path, 78, "java", 92319)
    assert examine_network(host, PORTS).listeners == (
        Listener(20080, Process(77, "nginx")),
        Listener(20100, None),
        Listener(20300, Process(78, "java")),
    )


def test_of_several_that_have_a_port_podmans_is_reported(host: Host, tmp_path: Path) -> None:
    (tmp_path / "proc/self/net/tcp").write_text(TCP)
    for pid in (70, 90):  # /proc is in no order
        hold(tmp_path, pid, "crun", 92315)
    watch(tmp_path, 77, DEMO, 92315)
    hold(tmp_path, 78, "podman", 92316)
    assert examine_network(host, PORTS).listeners == (
        Listener(20080, Process(77, "conmon", DEMO)),
        Listener(20100, Process(78, "podman")),
    )


def test_the_ports_are_those_of_the_network_that_podman_is_in(host: Host, tmp_path: Path) -> None:
    (tmp_path / "proc/9279/net").mkdir(parents=True)
    (tmp_path / "proc/9279/net/tcp").write_text(TCP)
    assert examine_network(host, PORTS).listeners == ()
    assert len(examine_network(replace(host, pid=9279), PORTS).listeners) == 2


def test_who_listens_outside_of_the_range_is_nobodys_business(host: Host, tmp_path: Path) -> None:
    (tmp_path / "proc/self/net/tcp").write_text(TCP)
    assert examine_network(host, range(30000, 30010)).listeners == ()


# -- those who watch containers -------------------------------------------------------------------


def test_who_watches_containers_in_podmans_network_is_found(host: Host, tmp_path: Path) -> None:
    watch(tmp_path, 469, DEMO)
    watch(tmp_path, 470, "a" * 64, network="net:[4026532246]")  # a rootless Podman's, for one
    # A command in a container: its conmon stays for five minutes, the container may be gone.
    watch(tmp_path, 471, "b" * 64, more=("-e", "--exec-attach", "--exec-process-spec", "/tmp/x"))
    watch(tmp_path, 472, "c" * 64, exit_dir="/var/run/crio/exits")  # CRI-O's
    hold(tmp_path, 473, "nginx")
    assert examine_network(host, PORTS).conmons == (Process(469, "conmon", DEMO),)


def test_strays_are_those_whose_container_podman_does_not_have(host: Host, tmp_path: Path) -> None:
    watch(tmp_path, 469, DEMO)
    watch(tmp_path, 470, "a" * 64)
    conmons = examine_network(host, PORTS).conmons
    assert strays(conmons, {DEMO}) == (Process(470, "conmon", "a" * 64),)
    assert strays(conmons, None) == ()


def test_what_came_or_went_between_two_looks_is_left_out(host: Host, tmp_path: Path) -> None:
    (tmp_path / "proc/self/net/tcp").write_text(TCP)
    watch(tmp_path, 469, DEMO, 92315)
    watch(tmp_path, 470, "a" * 64)
    first = examine_network(host, PORTS)
    shutil.rmtree(tmp_path / "proc/470")
    watch(tmp_path, 471, "b" * 64, 92316)
    second = examine_network(host, PORTS)
    both = seen_twice(first, second)
    assert both.conmons == (Process(469, "conmon", DEMO),)
    assert [listener.port for listener in both.listeners] == [20080]
    assert both.routes == second.routes


# -- routes ----------------------------------------------------------------------------------------


def test_a_thread_of_podman_that_stayed_in_a_containers_network_tells_nothing(
    host: Host, tmp_path: Path
) -> None:
    """It has the demos' own network as eth0: no demo could start here, as doctor saw it."""
    in_container = "Iface\tDestination\neth0\t00580A0A\t00000000\t0001\t0\t0\t0\t0000FFFF\n"
    own = tmp_path / "proc/self/ns/net"
    own.unlink()
    own.symlink_to("net:[1]")
    podman = tmp_path / "proc/9279"
    for thread, namespace, routes in ((9279, 2, in_container), (9280, 1, ROUTES)):
        home = podman / f"task/{thread}"
        (home / "ns").mkdir(parents=True)
        (home / "ns/net").symlink_to(f"net:[{namespace}]")
        (home / "net").mkdir()
        (home / "net/route").write_text(routes)
    (podman / "net").mkdir(exist_ok=True)
    (podman / "net/route").write_text(in_container)
    found = examine_network(replace(host, pid=9279), PORTS).routes
    assert Route(IPv4Network("10.88.0.0/16"), "podman0") in found
    assert not [route for route in found if route.network == IPv4Network("10.10.0.0/16")]


def test_routes_are_read_without_the_default_one(host: Host, tmp_path: Path) -> None:
    (tmp_path / "proc/self/net/route").write_text(ROUTES)
    assert examine_network(host, PORTS).routes == (
        Route(IPv4Network("192.0.2.0/24"), "eth0"),
        Route(IPv4Network("10.88.0.0/16"), "podman0"),
        Route(IPv4Network("10.244.1.0/26"), "*"),
    )


# -- CNI -------------------------------------------------------------------------------------------


def test_the_networks_of_pods_are_those_of_the_first_configuration(
    host: Host, tmp_path: Path
) -> None:
    configure(tmp_path, "10-containerd-net.conflist", CONTAINERDS_SAMPLE)
    configure(tmp_path, "20-other.conf", {"ipam": {"subnet": "10.1.0.0/16"}})
    configure(tmp_path, "00-notes.txt", "not read")
    assert examine_network(host, PORTS).cni == (IPv4Network("10.88.0.0/16"),)


def test_a_plain_configuration_is_read_too(host: Host, tmp_path: Path) -> None:
    configure(tmp_path, "20-other.conf", {"ipam": {"type": "host-local", "subnet": "10.1.0.0/16"}})
    assert examine_network(host, PORTS).cni == (IPv4Network("10.1.0.0/16"),)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", {"ipam": {"subnet": "usePodCidr"}}, {"ipam": {"subnet": 7}},
     # What Debian's Podman 4 leaves there.
     {"name": "podman", "plugins": [{"ipam": {"ranges": [[{"subnet": "10.88.0.0/16"}]]}}]}],
)  # fmt: skip
def test_a_configuration_that_names_no_network_of_pods_is_no_crash(
    host: Host, tmp_path: Path, content: object
) -> None:
    configure(tmp_path, "10-net.conflist", content)
    assert examine_network(host, PORTS).cni == ()


@pytest.mark.parametrize("text", ["", "Iface\n", "a b c\n" * 3, "eth0\tX\tY\n", "0: :4E70 : 0A\n"])
def test_tables_of_another_form_are_no_crash(host: Host, tmp_path: Path, text: str) -> None:
    for table in ("tcp", "tcp6", "route"):
        (tmp_path / "proc/self/net" / table).write_text(text)
    found = examine_network(host, PORTS)
    assert (found.listeners, found.routes) == ((), ())


def test_a_node_that_shows_nothing_has_nothing(tmp_path: Path) -> None:
    found = examine_network(
        Host(root=tmp_path, proc=tmp_path / "proc", node_root=tmp_path / "away"), PORTS
    )
    assert (found.listeners, found.routes, found.cni) == ((), (), ())
