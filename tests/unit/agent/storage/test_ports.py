"""The ports of the node that demos are published on."""

from __future__ import annotations

import pytest

from tryitnow.agent.ports import NoPortError, PortRange
from tryitnow.podman.client import ContainerState, PortMapping


def running(name: str, *host_ports: int) -> ContainerState:
    ports = tuple(PortMapping(host_port=port, container_port=80) for port in host_ports)
    return ContainerState(name, "id", running=True, exit_code=0, pid=1, image="", ports=ports)


def host_ports(mappings: list[PortMapping]) -> list[int]:
    return [mapping.host_port for mapping in mappings]


def test_each_container_port_gets_a_port_of_its_own() -> None:
    mappings = PortRange(100, 109).take("a", [80, 443])
    assert mappings == [PortMapping(100, 80), PortMapping(101, 443)]


def test_a_port_that_got_free_is_not_given_out_at_once() -> None:
    ports = PortRange(100, 103)
    assert host_ports(ports.take("a", [80])) == [100]
    ports.release("a")
    assert host_ports(ports.take("b", [80])) == [101]
    assert host_ports(ports.take("c", [80])) == [102]
    assert host_ports(ports.take("d", [80])) == [103]
    assert host_ports(ports.take("e", [80])) == [100], "the range is walked round"


def test_when_all_are_taken_it_says_what_to_do_and_keeps_none() -> None:
    ports = PortRange(100, 102)
    ports.take("a", [80, 443])
    with pytest.raises(NoPortError, match=r"between 100 and 102.*PORT_RANGE"):
        ports.take("b", [80, 443])
    assert ports.of("b") == []
    assert ports.taken == 2
    assert len(ports.take("b", [80])) == 1


def test_an_owner_that_starts_again_lets_go_of_what_it_held() -> None:
    ports = PortRange(100, 101)
    ports.take("a", [80, 443])
    ports.take("a", [80, 443])
    assert ports.of("a") == [100, 101]
    assert ports.taken == 2


def test_a_restarted_agent_learns_what_is_taken_from_podman() -> None:
    ports = PortRange(100, 102)
    ports.adopt([running("a", 100), running("b", 102)])
    assert host_ports(ports.take("c", [80])) == [101]
    ports.release("a")
    assert host_ports(ports.take("d", [80])) == [100]
    assert ports.of("b") == [102]


def test_releasing_what_nobody_holds_is_fine() -> None:
    PortRange(100, 101).release("nobody")
