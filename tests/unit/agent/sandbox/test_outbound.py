"""The rules for what a sandbox connects to, as nftables is told of them, and how they are kept up.

What the rules do to packets is for the system tests.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.unit.agent.demos.shop import Clock
from tests.unit.agent.sandbox.test_firewall import GONE, FakeNftables, sandbox
from tryitnow.agent.errors import FirewallError
from tryitnow.agent.sandbox.egress import EgressReason
from tryitnow.agent.sandbox.namespaces import Hosts
from tryitnow.agent.sandbox.nearby import Nearby
from tryitnow.agent.sandbox.outbound import Outbound
from tryitnow.agent.sandbox.resolver import Answer, NoAnswerError, Resolver
from tryitnow.api.network import AllowedEgress, IPAddress, Mail, Network
from tryitnow.settings import NetworkSettings

__all__ = ["sandbox"]

ADDRESS = ipaddress.ip_address("93.184.216.34")
NAMED = Network.model_validate({"egress": [{"host": "api.example.com", "ports": [443, 8443]}]})
WIDE = Network.model_validate({"egress": [{"cidr": "0.0.0.0/0", "ports": [53], "protocol": "UDP"}]})


@dataclass
class NotedHosts(Hosts):
    """Notes the lines of /etc/hosts; the process of a test has one of its own."""

    written: list[list[tuple[str, str]]] = field(default_factory=list)

    def set_egress(self, pid: int, hosts: Iterable[tuple[str, IPAddress]]) -> None:
        assert pid
        self.written.append([(host, str(address)) for host, address in hosts])


@dataclass
class Surroundings:
    """What the rules depend on."""

    nft: FakeNftables = field(default_factory=FakeNftables)
    hosts: NotedHosts = field(default_factory=NotedHosts)
    clock: Clock = field(default_factory=Clock)
    answer: Answer | Exception = field(default_factory=lambda: Answer((ADDRESS,), 60))

    async def look_up(self, host: str) -> Answer:
        assert host == "api.example.com"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def outbound(self, *, dns_servers: tuple[IPAddress, ...] = ()) -> Outbound:
        allowed = (AllowedEgress(host="*.example.com"), AllowedEgress(cidr="0.0.0.0/0"))
        settings = NetworkSettings(allowed_egress=allowed, dns_servers=dns_servers)
        resolver = Resolver(self.look_up, self.clock)
        return Outbound(settings, resolver, Nearby(), self.hosts, self.nft)

    @property
    def rules(self) -> list[str]:
        """The rules that were set last."""
        lines = self.nft.scripts[-1][0].splitlines()
        prefix = "add rule inet tryitnow_out output "
        return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


async def test_without_egress_nothing_is_let_out_but_what_was_let_in(
    around: Surroundings, sandbox: int
) -> None:
    await around.outbound().close(sandbox, Network())
    text, where = around.nft.scripts[-1]
    assert where == Path(f"/proc/{sandbox}/ns/net").readlink()
    assert "hook output priority filter; policy drop;" in text
    assert around.rules[:2] == ['oifname "lo" accept', "ct state established,related accept"]
    assert [rule for rule in around.rules[2:] if rule.endswith("accept")] == [
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit,"
        " mld2-listener-report } accept"
    ]


async def test_what_is_refused_is_told_so_at_once(around: Surroundings, sandbox: int) -> None:
    await around.outbound().close(sandbox, Network())
    assert around.rules[-2:] == [
        "meta l4proto tcp reject with tcp reset",
        "reject with icmpx admin-prohibited",
    ]


async def test_a_host_is_let_out_to_and_written_for_the_containers(
    around: Surroundings, sandbox: int
) -> None:
    await around.outbound().close(sandbox, NAMED)
    assert f"ip daddr {{ {ADDRESS}/32 }} tcp dport {{ 443, 8443 }} accept" in around.rules
    assert around.hosts.written == [[("api.example.com", str(ADDRESS))]]


async def test_a_wide_range_has_exceptions(around: Surroundings, sandbox: int) -> None:
    await around.outbound().close(sandbox, WIDE)
    (rule,) = [rule for rule in around.rules if rule.startswith("ip daddr { 0.0.0.0/0 }")]
    assert rule.endswith("udp dport { 53 } accept")
    excepted = rule.partition("!= { ")[2].partition(" }")[0].split(", ")
    assert "10.0.0.0/8" in excepted
    assert "169.254.0.0/16" in excepted
    networks = [ipaddress.ip_network(text) for text in excepted]
    assert not any(
        one != other and one.overlaps(other) for one in networks for other in networks
    ), "nftables refuses intervals that overlap"


async def test_the_named_dns_servers_alone_are_asked(around: Surroundings, sandbox: int) -> None:
    servers = (ipaddress.ip_address("192.0.2.53"), ipaddress.ip_address("2001:db8::53"))
    outbound = around.outbound(dns_servers=servers)
    await outbound.close(sandbox, Network())
    assert "ip daddr { 192.0.2.53 } meta l4proto { tcp, udp } th dport 53 accept" in around.rules
    assert "ip6 daddr { 2001:db8::53 } meta l4proto { tcp, udp } th dport 53 accept" in around.rules
    assert outbound.dns_servers == ("192.0.2.53", "2001:db8::53")
    assert around.outbound().dns_servers == ("127.0.0.1",)


async def test_rules_follow_the_addresses_of_a_name(around: Surroundings, sandbox: int) -> None:
    outbound = around.outbound()
    await outbound.close(sandbox, NAMED)
    before = len(around.nft.scripts)
    await outbound.refresh()
    assert len(around.nft.scripts) == before, "nothing has changed"
    around.answer = Answer((ipaddress.ip_address("93.184.216.35"),), 60)
    around.clock.wait(61)
    await outbound.refresh()
    (rule,) = [rule for rule in around.rules if rule.startswith("ip daddr {")]
    assert rule.startswith("ip daddr { 93.184.216.34/32, 93.184.216.35/32 } tcp")
    assert "flush chain inet tryitnow_out output" in around.nft.scripts[-1][0].splitlines()
    assert len(around.hosts.written[-1]) == 2


async def test_a_name_without_an_address_is_closed_and_told_of(
    around: Surroundings, sandbox: int
) -> None:
    outbound = around.outbound()
    around.answer = NoAnswerError("no such name", is_final=True)
    await outbound.close(sandbox, NAMED)
    assert not any(rule.startswith("ip daddr") for rule in around.rules)
    (problem,) = outbound.problems_of(NAMED)
    assert problem.reason is EgressReason.NOT_RESOLVED
    around.answer = Answer((ADDRESS,), 60)
    around.clock.wait(16)
    await outbound.refresh()
    assert any(rule.startswith("ip daddr") for rule in around.rules)
    assert outbound.problems_of(NAMED) == ()


async def test_what_is_more_than_allowed_is_named_before_anything_is_made(
    around: Surroundings,
) -> None:
    more = Network.model_validate({"egress": [{"host": "api.example.org", "ports": [1]}]})
    outbound = around.outbound()
    assert outbound.not_allowed(NAMED) is None
    problem = outbound.not_allowed(more)
    assert problem is not None
    assert "spec.network.egress[0].host: api.example.org" in problem.message


async def test_what_is_near_is_named_before_anything_is_made(around: Surroundings) -> None:
    near = Network.model_validate({"egress": [{"cidr": "169.254.169.254/32", "ports": [80]}]})
    problem = around.outbound().not_allowed(near)
    assert problem is not None
    assert "spec.network.egress[0].cidr: 169.254.169.254/32 is in" in problem.message


@pytest.mark.parametrize("mail", [Mail.DROP, Mail.SINK])
async def test_mail_is_led_to_the_server_in_the_sandbox(
    around: Surroundings, sandbox: int, mail: Mail
) -> None:
    await around.outbound().close(sandbox, Network(mail=mail))
    script = around.nft.scripts[-1][0].splitlines()
    led = [line for line in script if " dnat " in line]
    assert len(led) == 4
    assert all('oifname != "lo"' in line for line in led), "its own mail server is its own"
    assert all("limit rate" in line for line in led)
    assert led[0].endswith("dnat ip to 127.25.25.25:61025")
    assert "tcp dport { 25, 587, 2525 }" in led[0]
    assert "tcp dport { 465 }" in led[3]
    assert led[3].endswith("dnat ip6 to [::1]:61465")
    server = "ip daddr 127.25.25.25 tcp dport { 61025, 61465 } accept"
    assert around.rules.index(server) < around.rules.index("meta l4proto tcp reject with tcp reset")
    assert around.hosts.written == [[("mail.tryitnow.internal", "192.0.2.25")]]


async def test_mail_is_refused_unless_something_else_is_said(
    around: Surroundings, sandbox: int
) -> None:
    await around.outbound().close(sandbox, Network())
    script = around.nft.scripts[-1][0]
    assert "dnat" not in script
    assert "127.25.25.25" not in script
    assert around.hosts.written == []


async def test_hosts_that_may_be_reached_are_written_beside_that_of_mail(
    around: Surroundings, sandbox: int
) -> None:
    network = NAMED.model_copy(update={"mail": Mail.DROP})
    await around.outbound().close(sandbox, network)
    assert [host for host, _ in around.hosts.written[-1]] == [
        "mail.tryitnow.internal",
        "api.example.com",
    ]


async def test_a_sandbox_that_is_gone_is_forgotten(around: Surroundings, sandbox: int) -> None:
    outbound = around.outbound()
    await outbound.close(sandbox, NAMED)
    assert outbound.guards(sandbox)
    os.kill(sandbox, 9)
    await asyncio.to_thread(os.waitpid, sandbox, 0)
    await outbound.refresh()
    assert not outbound.guards(sandbox)
    with pytest.raises(FirewallError, match="is gone"):
        await outbound.close(GONE, NAMED)


async def test_what_nftables_says_is_reported_and_the_nodes_own_network_is_left_alone(
    around: Surroundings, sandbox: int
) -> None:
    with pytest.raises(FirewallError, match="in no sandbox any more"):
        await around.outbound().close(os.getpid(), Network())
    assert around.nft.scripts == []
    around.nft.error = "Operation not supported"
    with pytest.raises(FirewallError, match="cannot be set: Operation not supported"):
        await around.outbound().close(sandbox, Network())


async def test_the_nodes_own_hosts_are_never_written(around: Surroundings) -> None:
    with pytest.raises(FirewallError, match="in no sandbox any more"):
        await around.outbound().close(os.getpid(), NAMED)
    assert around.hosts.written == []
