"""Ports and addresses of demos against others on the node."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from tests.unit.doctor.conftest import DEMO, Node
from tryitnow.api.nodeagent import Verdict
from tryitnow.doctor.host import Process
from tryitnow.doctor.network import Listener, Route
from tryitnow.doctor.report import can_take

PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL


def listeners(*ports: int) -> tuple[Listener, ...]:
    return tuple(Listener(port, Process(port, "nginx")) for port in ports)


def test_ports_that_are_free_pass(node: Node) -> None:
    assert node.check("ports").found == "20000-20999; no other program listens there"


def test_foreign_listeners_are_named_with_their_process(node: Node) -> None:
    taken = (*listeners(20080, 20443), Listener(20500, None))
    check = node.with_network(listeners=taken).check("ports")
    assert check.verdict is WARN
    assert check.found == (
        "20080 (nginx, process 20080), 20443 (nginx, process 20443), 20500 (a process that is not "
        "visible from here) of 20000-20999, where others listen"
    )
    assert "ss --listening --tcp --processes" in check.remedy
    assert "agent.portRange" in check.remedy


def test_of_many_foreign_listeners_the_first_are_named(node: Node) -> None:
    found = node.with_network(listeners=listeners(*range(20000, 20010))).check("ports").found
    assert "and 7 more of 20000-20999" in found


def test_ports_that_are_too_few_for_the_demos_are_counted(node: Node) -> None:
    few = node.wanting(ports=range(20000, 20110)).with_network(listeners=listeners(20001))
    assert "ports for 109 of 110 demos are left" in few.check("ports").found


def test_no_port_left_fails(node: Node) -> None:
    none = node.wanting(ports=range(20000, 20001)).with_network(listeners=listeners(20000))
    assert none.check("ports").verdict is FAIL
    assert not can_take(none.checks)[0]


# A conmon whose container Podman does not have.
STRAY = Process(812, "conmon", "f" * 64)


@pytest.mark.parametrize(
    "process", [Process(469, "conmon", DEMO), Process(9279, "podman")], ids=["conmon", "podman"]
)
def test_ports_that_podman_holds_for_demos_are_not_foreign(node: Node, process: Process) -> None:
    held = node.with_network(listeners=(Listener(20002, process),))
    assert held.check("ports").verdict is PASS


@pytest.mark.parametrize(
    "process", [STRAY, Process(813, "conmon")], ids=["of another Podman, or left", "of CRI-O"]
)
def test_a_conmon_of_no_container_of_this_podman_is_foreign(node: Node, process: Process) -> None:
    left = node.with_network(listeners=(Listener(20002, process),), conmons=(STRAY,))
    check = left.check("ports")
    assert check.verdict is WARN
    assert f"20002 (conmon, process {process.pid})" in check.found
    assert ("`kill` it" in check.remedy) == (process is STRAY)


def test_while_podman_does_not_list_its_containers_no_conmon_is_foreign(node: Node) -> None:
    left = node.with_network(listeners=(Listener(20002, STRAY),), conmons=(STRAY,))
    for unknown in (left.with_podman(container_ids=None), left.with_busy_podman()):
        assert unknown.check("ports").verdict is PASS


def test_without_root_listeners_are_not_told_from_podmans_own(node: Node) -> None:
    assert not node.but(user=1000).has_check("ports")


# -- ports that the node's own connections begin at ------------------------------------------------


def test_ports_of_outgoing_connections_inside_of_the_range_warn(node: Node) -> None:
    check = node.with_limits(local_ports=range(20500, 61000)).check("local ports")
    assert check.verdict is WARN
    assert "20500-60999, 20500-20999 of the demos' 20000-20999 included" in check.found
    assert "`sysctl -w net.ipv4.ip_local_reserved_ports=20500-20999`" in check.remedy


def test_ports_that_are_reserved_pass(node: Node) -> None:
    reserved = node.with_limits(
        local_ports=range(1024, 65536), reserved_ports=(range(8080, 8081), range(20000, 21000))
    )
    assert reserved.check("local ports").verdict is PASS


def test_what_others_reserved_stays_reserved(node: Node) -> None:
    part = node.with_limits(
        local_ports=range(1024, 65536), reserved_ports=(range(8080, 8081), range(20000, 20500))
    )
    assert "=8080,20000-20499,20000-20999`" in part.check("local ports").remedy


def test_ports_beside_the_range_pass(node: Node) -> None:
    assert node.check("local ports").found == "32768-60999, beside 20000-20999"


# -- the network of demos --------------------------------------------------------------------------


def test_a_network_of_their_own_passes(node: Node) -> None:
    assert node.check("demo network").found == "10.88.0.0/16, on no other network of the node"


@pytest.mark.parametrize("other", ["10.88.0.0/16", "10.88.3.0/24"])
def test_a_bridge_with_the_same_addresses_fails(node: Node, other: str) -> None:
    shared = node.with_network(routes=(Route(IPv4Network(other), "cni0"),))
    check = shared.check("demo network")
    assert check.verdict is FAIL
    assert f"the node reaches {other} by cni0" in check.found
    assert "default_subnet" in check.remedy
    assert not can_take(shared.checks)[0]


def test_a_larger_network_around_it_warns(node: Node) -> None:
    office = node.with_network(routes=(Route(IPv4Network("10.0.0.0/8"), "wg0"),))
    check = office.check("demo network")
    assert check.verdict is WARN
    assert "a part of 10.0.0.0/8 that the node reaches by wg0" in check.found


def test_a_configuration_of_pods_with_the_same_addresses_warns_before_the_first_pod(
    node: Node,
) -> None:
    check = node.with_network(cni=(IPv4Network("10.88.0.0/16"),)).check("demo network")
    assert check.verdict is WARN
    assert "/etc/cni/net.d" in check.found


def test_containers_of_another_podman_warn_that_they_may_get_the_same_addresses(
    node: Node,
) -> None:
    others = tuple(Process(pid, "conmon", f"{pid:064x}") for pid in range(801, 806))
    check = node.with_network(conmons=(*node.facts.network.conmons, *others)).check("demo network")
    assert check.verdict is WARN
    assert "5 containers here are not of this Podman (their conmon: process 801, 802, 803)" in (
        check.found
    )
    assert "`ps -o args= -p 801`" in check.remedy
    assert "default_subnet" in check.remedy


def test_a_network_that_podman_does_not_tell_is_not_judged(node: Node) -> None:
    assert not node.with_podman(networks=()).has_check("demo network")
    assert not node.without_podman().has_check("demo network")
