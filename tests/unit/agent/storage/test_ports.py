"""The ports of the node that demos are published on."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tryitnow.agent.errors import NodeShortError
from tryitnow.agent.storage.ports import PortRange, nobody_listens
from tryitnow.api.limits import NO_PORT, PORT_TAKEN
from tryitnow.podman.client import ContainerState, PortMapping


def running(name: str, *host_ports: int) -> ContainerState:
    ports = tuple(PortMapping(host_port=port, container_port=80) for port in host_ports)
    return ContainerState(name, "id", running=True, exit_code=0, pid=1, image="", ports=ports)


def port_range(first: int, last: int, *foreign: int) -> PortRange:
    """Make a range; processes of others listen on the foreign ports."""
    return PortRange(first, last, lambda port: port not in foreign)


def host_ports(mappings: list[PortMapping]) -> list[int]:
    return [mapping.host_port for mapping in mappings]


def test_each_container_port_gets_a_port_of_its_own() -> None:
    mappings = port_range(100, 109).take("a", [80, 443])
    assert mappings == [PortMapping(100, 80), PortMapping(101, 443)]


def test_a_port_that_got_free_is_not_given_out_at_once() -> None:
    ports = port_range(100, 103)
    assert host_ports(ports.take("a", [80])) == [100]
    ports.release("a")
    assert host_ports(ports.take("b", [80])) == [101]
    assert host_ports(ports.take("c", [80])) == [102]
    assert host_ports(ports.take("d", [80])) == [103]
    assert host_ports(ports.take("e", [80])) == [100], "the range is walked round"


def test_when_all_are_taken_it_says_what_to_do_and_keeps_none() -> None:
    ports = port_range(100, 102)
    ports.take("a", [80, 443])
    with pytest.raises(NodeShortError, match=r"between 100 and 102.*PORT_RANGE") as caught:
        ports.take("b", [80, 443])
    assert caught.value.limit == NO_PORT
    assert ports.of("b") == []
    assert ports.taken == 2
    assert len(ports.take("b", [80])) == 1


def test_an_owner_that_starts_again_lets_go_of_what_it_held() -> None:
    ports = port_range(100, 101)
    ports.take("a", [80, 443])
    ports.take("a", [80, 443])
    assert ports.of("a") == [100, 101]
    assert ports.taken == 2


def test_a_restarted_agent_learns_what_is_taken_from_podman() -> None:
    ports = port_range(100, 102)
    ports.adopt([running("a", 100), running("b", 102)])
    assert host_ports(ports.take("c", [80])) == [101]
    ports.release("a")
    assert host_ports(ports.take("d", [80])) == [100]
    assert ports.of("b") == [102]


def test_releasing_what_nobody_holds_is_fine() -> None:
    port_range(100, 101).release("nobody")


def test_a_port_on_which_another_process_listens_is_passed_over() -> None:
    ports = port_range(100, 103, 100, 102)
    assert host_ports(ports.take("a", [80, 443])) == [101, 103]
    with pytest.raises(NodeShortError):
        ports.take("b", [80])


def test_a_foreign_listener_that_went_away_leaves_its_port() -> None:
    foreign = {100}
    ports = PortRange(100, 100, lambda port: port not in foreign)
    with pytest.raises(NodeShortError):
        ports.take("a", [80])
    foreign.clear()
    assert host_ports(ports.take("a", [80])) == [100]


def test_a_demo_gets_the_very_ports_that_it_had() -> None:
    ports = port_range(100, 109)
    ports.keep("a", [PortMapping(105, 80), PortMapping(107, 443)])
    assert ports.of("a") == [105, 107]
    ports.keep("a", [PortMapping(105, 80)])
    assert ports.of("a") == [105]


def test_a_port_that_another_owner_has_by_now_is_not_taken_from_it() -> None:
    ports = port_range(100, 109)
    ports.take("b", [80])
    ports.keep("a", [PortMapping(105, 80)])
    with pytest.raises(NodeShortError, match=r"port 100.*belongs to b") as caught:
        ports.keep("a", [PortMapping(104, 80), PortMapping(100, 443)])
    assert caught.value.limit == PORT_TAKEN
    assert ports.of("b") == [100]
    assert ports.of("a") == [105], "a keeps what it held"


def test_a_new_owner_has_all_ports_of_the_old_one() -> None:
    ports = port_range(100, 109)
    ports.take("warm", [80, 443])
    ports.hand_over("warm", "demo")
    assert ports.of("warm") == []
    assert ports.of("demo") == [100, 101]
    assert ports.owners() == {"demo"}


# -- who listens on this node ---------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        yield listener


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_listener_of_any_address_is_seen(listener: socket.socket, address: str) -> None:
    listener.bind((address, 0))
    port = listener.getsockname()[1]
    listener.listen()
    assert not nobody_listens(port)
    listener.close()
    assert nobody_listens(port)


def test_a_listener_of_ipv6_alone_is_seen() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("::1", 0))
        listener.listen()
        assert not nobody_listens(listener.getsockname()[1])


def test_connections_that_have_just_ended_are_no_listener(listener: socket.socket) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Podman does it
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    served, _ = listener.accept()
    served.close()  # this side waits (TIME_WAIT)
    client.close()
    listener.close()
    assert nobody_listens(port)
