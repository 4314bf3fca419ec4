"""Names in egress: looked up when they are needed, and again when their answer has expired."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest

from tests.unit.agent.demos.shop import Clock
from tryitnow.agent.sandbox.resolver import (
    AGAIN_SECONDS,
    KEPT_SECONDS,
    LONGEST_SECONDS,
    MOST_ADDRESSES,
    SHORTEST_SECONDS,
    Answer,
    NoAnswerError,
    Resolver,
    dns_lookup,
)
from tryitnow.api.network import IPAddress

HOST = "api.example.com"
ONE, TWO = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("192.0.2.2")


class Servers:
    """DNS servers that say what they are told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Answer | Exception = Answer((ONE,), 60)

    async def __call__(self, host: str) -> Answer:
        self.asked.append(host)
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def servers() -> Servers:
    return Servers()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def resolver(servers: Servers, clock: Clock) -> Resolver:
    return Resolver(servers, clock)


def known(resolver: Resolver) -> tuple[IPAddress, ...]:
    return resolver.addresses_of(HOST).addresses


async def test_a_name_is_looked_up_once_until_its_answer_expires(
    resolver: Resolver, servers: Servers, clock: Clock
) -> None:
    assert known(resolver) == ()
    await resolver.learn([HOST, HOST])
    await resolver.learn([HOST])
    clock.wait(59)
    await resolver.refresh([HOST])
    assert known(resolver) == (ONE,)
    assert servers.asked == [HOST]
    clock.wait(2)
    await resolver.refresh([HOST])
    assert servers.asked == [HOST, HOST]


@pytest.mark.parametrize(("ttl", "holds"), [(0, SHORTEST_SECONDS), (1e6, LONGEST_SECONDS)])
async def test_the_time_that_an_answer_holds_has_bounds(
    resolver: Resolver, servers: Servers, clock: Clock, ttl: float, holds: float
) -> None:
    servers.answer = Answer((ONE,), ttl)
    await resolver.learn([HOST])
    clock.wait(holds - 1)
    await resolver.refresh([HOST])
    assert servers.asked == [HOST]
    clock.wait(2)
    await resolver.refresh([HOST])
    assert servers.asked == [HOST, HOST]


async def test_an_address_stays_for_a_while_after_it_was_last_told(
    resolver: Resolver, servers: Servers, clock: Clock
) -> None:
    await resolver.learn([HOST])
    servers.answer = Answer((TWO,), 60)
    clock.wait(61)
    await resolver.refresh([HOST])
    assert known(resolver) == (ONE, TWO), "an application may remember the first"
    clock.wait(KEPT_SECONDS)
    await resolver.refresh([HOST])
    assert known(resolver) == (TWO,)


async def test_what_is_known_stays_while_no_server_answers(
    resolver: Resolver, servers: Servers, clock: Clock
) -> None:
    await resolver.learn([HOST])
    servers.answer = TimeoutError()
    for _ in range(100):
        clock.wait(AGAIN_SECONDS + LONGEST_SECONDS)
        await resolver.refresh([HOST])
    assert known(resolver) == (ONE,)


async def test_a_name_that_is_gone_is_closed_after_a_while_and_open_again_when_it_is_back(
    resolver: Resolver, servers: Servers, clock: Clock
) -> None:
    await resolver.learn([HOST])
    servers.answer = NoAnswerError("no such name", is_final=True)
    clock.wait(KEPT_SECONDS + 1)
    await resolver.refresh([HOST])
    assert resolver.addresses_of(HOST).problem == "no such name"
    assert known(resolver) == ()
    servers.answer = Answer((TWO,), 60)
    clock.wait(AGAIN_SECONDS + 1)
    await resolver.refresh([HOST])
    assert known(resolver) == (TWO,)
    assert resolver.addresses_of(HOST).problem == ""


async def test_a_name_that_nobody_needs_is_forgotten(resolver: Resolver) -> None:
    await resolver.learn([HOST])
    await resolver.refresh([])
    assert known(resolver) == ()


async def test_a_name_has_no_more_addresses_than_a_firewall_should_hold(
    resolver: Resolver, servers: Servers
) -> None:
    many = tuple(ipaddress.ip_address(number) for number in range(1 << 24, (1 << 24) + 500))
    servers.answer = Answer(many, 60)
    await resolver.learn([HOST])
    assert len(known(resolver)) == MOST_ADDRESSES


async def test_a_server_that_nobody_is_at_is_told_of() -> None:
    lookup = dns_lookup([ipaddress.ip_address("127.0.0.1")])
    with pytest.raises((NoAnswerError, OSError, TimeoutError)):
        await lookup("api.example.invalid")
