"""What a sandbox may reach: what is asked for, as far as it is allowed, and never what is near."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import pytest

from tryitnow.agent.sandbox.egress import EgressDecision, EgressReason, HostAddresses, decide_egress
from tryitnow.agent.sandbox.nearby import METADATA
from tryitnow.api.network import AllowedEgress, Network, Protocol

NODE = "10.0.0.5"
API_SERVER = "203.0.113.1"
NEIGHBOURS = "10.88.0.0/16"
NEARBY = (
    *METADATA,
    *(ipaddress.ip_network(text) for text in (NODE, API_SERVER, NEIGHBOURS)),
)


def known(**hosts: str) -> Callable[[str], HostAddresses]:
    """The addresses of hosts; dots are underscores."""
    found = {
        name.replace("_", "."): HostAddresses(
            tuple(ipaddress.ip_address(text) for text in texts.split())
        )
        for name, texts in hosts.items()
    }
    return lambda host: found.get(host, HostAddresses(problem="no such name"))


def decide(
    egress: list[dict[str, Any]],
    allowed: list[dict[str, Any]],
    addresses_of: Callable[[str], HostAddresses] | None = None,
) -> EgressDecision:
    network = Network.model_validate({"egress": [{"ports": [443], **rule} for rule in egress]})
    entries = [AllowedEgress.model_validate(entry) for entry in allowed]
    return decide_egress(network, entries, NEARBY, addresses_of or known())


def is_open(decision: EgressDecision, address: str) -> bool:
    single = ipaddress.ip_address(address)
    return any(
        any(single in each for each in opening.targets)
        and not any(single in each for each in opening.exceptions)
        for opening in decision.openings
    )


def test_what_is_not_asked_for_is_closed() -> None:
    assert decide([], [{"cidr": "0.0.0.0/0"}]) == EgressDecision()


def test_what_is_asked_for_and_allowed_is_open_with_its_ports_and_protocol() -> None:
    asked = [{"cidr": "8.8.8.0/24", "ports": [53, 853], "protocol": "UDP"}]
    (opening,) = decide(asked, [{"cidr": "8.8.0.0/16"}]).openings
    assert opening.targets == (ipaddress.ip_network("8.8.8.0/24"),)
    assert opening.ports == (53, 853)
    assert opening.protocol is Protocol.UDP


@pytest.mark.parametrize("allowed", [[], [{"cidr": "8.8.8.8/32"}], [{"host": "*.example.com"}]])
def test_more_than_is_allowed_is_closed_and_says_the_field_and_the_way_out(
    allowed: list[dict[str, Any]],
) -> None:
    decision = decide([{"cidr": "8.8.8.8/32"}, {"cidr": "8.8.0.0/16"}], allowed)
    assert not is_open(decision, "8.8.4.4")
    problem = decision.problems[-1]
    assert problem.reason is EgressReason.NOT_ALLOWED
    assert problem.message.startswith("spec.network.egress[1].cidr: 8.8.0.0/16 (TCP 443)")
    assert "agent.network.allowedEgress" in problem.message
    assert "have an administrator add" in problem.message


NEAR = [
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    NODE,
    API_SERVER,
    "10.88.0.7",
    "10.96.0.1",
    "172.20.0.10",
    "192.168.1.1",
    "127.0.0.1",
    "224.0.0.251",
    "255.255.255.255",
]


@pytest.mark.parametrize("address", NEAR)
def test_a_wide_range_opens_nothing_near(address: str) -> None:
    decision = decide([{"cidr": "0.0.0.0/0"}], [{"cidr": "0.0.0.0/0"}])
    assert is_open(decision, "8.8.8.8")
    assert not is_open(decision, address)


@pytest.mark.parametrize(
    "address", ["fd00:ec2::254", "fd20:ce::254", "fe80::1", "::1", "fd12::1", "ff02::1",
                "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"]
)  # fmt: skip
def test_a_wide_range_opens_nothing_near_by_ipv6(address: str) -> None:
    decision = decide([{"cidr": "::/0"}], [{"cidr": "::/0"}])
    assert is_open(decision, "2606:4700::1111")
    assert not is_open(decision, address)


@pytest.mark.parametrize("address", [address for address in NEAR if address != "127.0.0.1"])
def test_a_near_address_that_the_author_alone_names_is_closed(address: str) -> None:
    decision = decide([{"cidr": f"{address}/32"}], [{"cidr": "0.0.0.0/0"}])
    assert not is_open(decision, address)
    (problem,) = decision.problems
    assert problem.reason is EgressReason.NOT_ALLOWED
    assert "An administrator opens it" in problem.message


@pytest.mark.parametrize("address", [address for address in NEAR if address != "127.0.0.1"])
def test_a_near_address_that_the_administrator_names_is_open(address: str) -> None:
    entry = {"cidr": f"{address}/32"}
    assert is_open(decide([entry], [{"cidr": "0.0.0.0/0"}, entry]), address)


def test_a_private_network_that_the_administrator_names_opens_not_what_is_near_in_it() -> None:
    decision = decide([{"cidr": "10.0.0.0/8"}], [{"cidr": "10.0.0.0/8"}])
    assert is_open(decision, "10.1.2.3")
    for address in (NODE, "10.88.0.7"):
        assert not is_open(decision, address)


def test_a_host_is_open_by_its_addresses_and_known_to_the_containers() -> None:
    decision = decide(
        [{"host": "api.example.com"}],
        [{"host": "*.example.com"}],
        known(api_example_com="93.184.216.34 2606:4700::1111"),
    )
    assert is_open(decision, "93.184.216.34")
    assert is_open(decision, "2606:4700::1111")
    assert [(host, str(address)) for host, address in decision.hosts] == [
        ("api.example.com", "93.184.216.34"),
        ("api.example.com", "2606:4700::1111"),
    ]


def test_a_host_that_cannot_be_looked_up_is_closed_and_says_so() -> None:
    decision = decide([{"host": "api.example.com"}], [{"host": "api.example.com"}])
    assert decision.openings == ()
    (problem,) = decision.problems
    assert problem.reason is EgressReason.NOT_RESOLVED
    assert "spec.network.egress[0].host: api.example.com has no known address: no such name" in (
        problem.message
    )


@pytest.mark.parametrize("address", [*NEAR, "fd00:ec2::254", "::1"])
def test_a_name_that_leads_near_opens_nothing(address: str) -> None:
    """Who owns a name decides about its addresses (DNS rebinding)."""
    decision = decide(
        [{"host": "api.example.com"}],
        [{"host": "*.example.com"}, {"cidr": "0.0.0.0/0"}],
        known(api_example_com=f"{address} 93.184.216.34"),
    )
    assert is_open(decision, "93.184.216.34")
    assert not is_open(decision, address)
    alone = decide(
        [{"host": "api.example.com"}], [{"host": "*.example.com"}], known(api_example_com=address)
    )
    (problem,) = alone.problems
    assert problem.reason is EgressReason.NOT_ALLOWED
    assert address in problem.message


def test_a_private_host_that_the_administrator_names_is_open_and_the_node_is_not() -> None:
    asked, allowed = [{"host": "db.internal.example"}], [{"host": "db.internal.example"}]
    assert is_open(decide(asked, allowed, known(db_internal_example="10.1.2.3")), "10.1.2.3")
    assert not is_open(decide(asked, allowed, known(db_internal_example=NODE)), NODE)


def test_a_private_host_below_a_name_is_open_where_its_address_is_allowed_as_well() -> None:
    asked, known_as = [{"host": "db.internal.example"}], known(db_internal_example="10.1.2.3")
    below = {"host": "*.internal.example"}
    assert not is_open(decide(asked, [below], known_as), "10.1.2.3")
    for entry in ({"cidr": "10.1.0.0/16"}, {"cidr": "10.1.2.3/32", "ports": [443]}):
        assert is_open(decide(asked, [below, entry], known_as), "10.1.2.3")
    for entry in ({"cidr": "10.2.0.0/16"}, {"cidr": "10.1.0.0/16", "ports": [80]}):
        assert not is_open(decide(asked, [below, entry], known_as), "10.1.2.3")
