"""The other half of a sandbox's firewall: a table of nftables for what its containers connect to.

Loopback, what belongs to connections that are there already, the DNS servers that the administrator
names, and what is decided in ``egress``; all else is refused at once, so that no application waits.
Mail is led to the agent's own server in the sandbox, where the definition asks for that.
It is there from before the first container until the sandbox ends, in builds and test restores too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tryitnow.agent.errors import FirewallError
from tryitnow.agent.mail.server import ADDRESSES as MAIL_SERVER
from tryitnow.agent.mail.server import HOST as MAIL_HOST
from tryitnow.agent.mail.server import PLAIN_PORT, TLS_PORT
from tryitnow.agent.sandbox.egress import (
    EgressDecision,
    EgressProblem,
    EgressReason,
    HostAddresses,
    Opening,
    decide_egress,
)
from tryitnow.agent.sandbox.namespaces import Hosts, network_of
from tryitnow.agent.sandbox.nearby import Nearby
from tryitnow.agent.sandbox.nftables import Nftables, NftablesError
from tryitnow.agent.sandbox.resolver import Resolver
from tryitnow.api.network import SINK_PORTS, TLS_MAIL_PORT, IPAddress, IPNetwork, Network
from tryitnow.background import in_thread
from tryitnow.settings import NetworkSettings

logger = logging.getLogger(__name__)

TABLE = "tryitnow_out"

MAIL_ADDRESS = ipaddress.IPv4Address("192.0.2.25")
"""Address of the mail server for applications, behind its name in /etc/hosts. Any other outside of
the sandbox does as well; this one is for documentation (RFC 5737) and is nobody's."""

_MAIL_RATE = "limit rate 10/second burst 20 packets"
"""New connections for mail. More is refused: each costs the agent some milliseconds."""

NO_DNS = "127.0.0.1"
"""The DNS server of sandboxes that have none: nobody answers there, and that at once."""


def render(
    decision: EgressDecision, dns_servers: Iterable[IPAddress], *, takes_mail: bool = False
) -> str:
    """Return a script that sets all rules, in the place of whatever is set, as one transaction."""
    rules = [
        'oifname "lo" accept',
        "ct state established,related accept",
        # Without them IPv6 finds no neighbour (RFC 4890, section 4.4.1). No other ICMP goes out,
        # but for what belongs to a connection.
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit,"
        " mld2-listener-report } accept",
    ]
    for family, servers in _by_family(dns_servers):
        rules.append(
            f"{family} daddr {{ {servers} }} meta l4proto {{ tcp, udp }} th dport 53 accept"
        )
    if takes_mail:
        for family, address in zip(("ip", "ip6"), MAIL_SERVER, strict=True):
            # What was led there had another interface when it came here, and has it still.
            ports = f"{{ {PLAIN_PORT}, {TLS_PORT} }}"
            rules.append(f"{family} daddr {address} tcp dport {ports} accept")
    for opening in decision.openings:
        rules += _accepted(opening)
    # Refused, not dropped: an application that waits for an answer makes its client wait. A reset,
    # since an ICMP error ends no connect() before its first repetition (tcp_v4_err, sk_err_soft).
    rules += ["meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited"]
    return (
        f"add table inet {TABLE}\n"
        f"add chain inet {TABLE} output"
        " { type filter hook output priority filter; policy drop; }\n"
        f"flush chain inet {TABLE} output\n"
        + "".join(f"add rule inet {TABLE} output {rule}\n" for rule in rules)
        + (_led_mail() if takes_mail else "")
    )


def _led_mail() -> str:
    """Return a chain that leads new connections for mail to the server in the sandbox.

    Not those to its own addresses: an application may have a mail server of its own there.
    """
    plain = ", ".join(str(port) for port in sorted(SINK_PORTS - {TLS_MAIL_PORT}))
    rules = [
        f'oifname != "lo" {match} tcp dport {{ {ports} }} {_MAIL_RATE} dnat {to}:{server_port}'
        for match, to in (
            ("meta nfproto ipv4", f"ip to {MAIL_SERVER[0]}"),
            ("meta nfproto ipv6", f"ip6 to [{MAIL_SERVER[1]}]"),
        )
        for ports, server_port in ((plain, PLAIN_PORT), (str(TLS_MAIL_PORT), TLS_PORT))
    ]
    return (
        f"add chain inet {TABLE} mail {{ type nat hook output priority -100; policy accept; }}\n"
        f"flush chain inet {TABLE} mail\n"
        + "".join(f"add rule inet {TABLE} mail {rule}\n" for rule in rules)
    )


def _accepted(opening: Opening) -> Iterator[str]:
    ports = ", ".join(str(port) for port in sorted(set(opening.ports)))
    excepted = dict(_by_family(opening.exceptions))
    for family, targets in _by_family(opening.targets):
        besides = f" {family} daddr != {{ {excepted[family]} }}" if family in excepted else ""
        protocol = opening.protocol.lower()
        yield f"{family} daddr {{ {targets} }}{besides} {protocol} dport {{ {ports} }} accept"


def _by_family(targets: Iterable[IPAddress | IPNetwork]) -> Iterator[tuple[str, str]]:
    found = list(targets)
    for family, version in (("ip", 4), ("ip6", 6)):
        if texts := [str(each) for each in found if each.version == version]:
            yield family, ", ".join(texts)


@dataclass
class _Guarded:
    """A sandbox whose output is ours."""

    network: Network
    namespace: int
    """Inode of its network namespace: another process may get its number."""

    script: str = ""
    hosts: tuple[tuple[str, IPAddress], ...] = ()
    problems: tuple[EgressProblem, ...] = ()


class Outbound:
    """Decides and sets what the containers of this node's sandboxes may connect to."""

    def __init__(
        self,
        settings: NetworkSettings,
        resolver: Resolver,
        nearby: Nearby,
        hosts: Hosts,
        nftables: Nftables,
        proc: Path = Path("/proc"),
    ) -> None:
        self._settings = settings
        self._resolver = resolver
        self._nearby = nearby
        self._hosts = hosts
        self._nftables = nftables
        self._proc = proc
        self._guarded: dict[int, _Guarded] = {}
        self._one_at_a_time = asyncio.Lock()

    @property
    def dns_servers(self) -> tuple[str, ...]:
        """The DNS servers in the /etc/resolv.conf of sandboxes."""
        return tuple(str(server) for server in self._settings.dns_servers) or (NO_DNS,)

    def not_allowed(self, network: Network) -> EgressProblem | None:
        """Return the first thing asked for that is more than the administrator allows.

        Where hosts lead is not looked at.

        Raises:
            OSError: the node's own addresses cannot be read.

        """
        if not network.egress:
            return None
        decision = decide_egress(
            network,
            self._settings.allowed_egress,
            self._nearby.of_node(),
            lambda _: HostAddresses(),
        )
        refused = (p for p in decision.problems if p.reason is EgressReason.NOT_ALLOWED)
        return next(refused, None)

    async def close(self, pid: int, network: Network) -> None:
        """Let nothing out of a sandbox but what it may reach, from now on for as long as it lives.

        Args:
            pid: A process in the sandbox's network namespace.
            network: What its definition asks for.

        Raises:
            FirewallError: nftables is missing or refused, or the process is not in a sandbox.

        """
        await self._resolver.learn(rule.host for rule in network.egress if rule.host)
        # Noted here, and not in the thread: refresh() walks over the sandboxes meanwhile.
        self._guarded[pid] = await in_thread(self._guard, pid, network)

    def guards(self, pid: int) -> bool:
        """Whether ``close`` was called for the sandbox that a process holds."""
        guarded = self._guarded.get(pid)
        return guarded is not None and self._is_there(pid, guarded)

    def problems_of(self, network: Network) -> tuple[EgressProblem, ...]:
        """Return what the sandboxes of a definition ask for and have not.

        None while no such sandbox is known.
        """
        of_it = (each for each in self._guarded.values() if each.network == network)
        return next((each.problems for each in of_it), ())

    async def refresh(self) -> None:
        """Set the rules again where names have other addresses, or the node has, by now."""
        async with self._one_at_a_time:
            gone = [pid for pid, each in self._guarded.items() if not self._is_there(pid, each)]
            for pid in gone:
                del self._guarded[pid]
            networks = {guarded.network for guarded in self._guarded.values()}
            await self._resolver.refresh(
                rule.host for network in networks for rule in network.egress if rule.host
            )
            if any(network.egress for network in networks):
                await in_thread(self._set_all, dict(self._guarded))

    def _set_all(self, all_guarded: Mapping[int, _Guarded]) -> None:
        try:
            of_node = self._nearby.of_node()
        except OSError as error:
            logger.warning("the node's own addresses cannot be read: %s", error)
            return
        for pid, guarded in all_guarded.items():
            if guarded.network.egress and self._is_there(pid, guarded):
                try:
                    self._set(pid, guarded, of_node)
                except FirewallError as error:
                    logger.warning("what is let out cannot be refreshed: %s", error)

    def _guard(self, pid: int, network: Network) -> _Guarded:
        try:
            namespace = (self._proc / str(pid) / "ns/net").stat().st_ino
        except OSError as error:
            msg = f"the sandbox of process {pid} is gone: {error}"
            raise FirewallError(msg) from error
        guarded = _Guarded(network, namespace)
        try:
            of_node = self._nearby.of_node() if network.egress else frozenset()
        except OSError as error:
            msg = f"the node's own addresses cannot be read: {error}"
            raise FirewallError(msg) from error
        self._set(pid, guarded, of_node)
        return guarded

    def _set(self, pid: int, guarded: _Guarded, of_node: frozenset[IPNetwork]) -> None:
        try:
            decision = self._decide(pid, guarded.network, of_node)
            script = render(
                decision, self._settings.dns_servers, takes_mail=guarded.network.takes_mail
            )
            guarded.problems = decision.problems
            if script != guarded.script:
                # First: it makes sure that the process is in a sandbox, and not one of the node.
                with network_of(pid):
                    self._nftables.run(script)
                guarded.script = script
            if decision.hosts != guarded.hosts:
                self._hosts.set_egress(pid, decision.hosts)
                guarded.hosts = decision.hosts
        except OSError as error:
            msg = f"the sandbox of process {pid} is gone: {error}"
            raise FirewallError(msg) from error
        except NftablesError as error:
            msg = f"the firewall of the sandbox cannot be set: {error}"
            raise FirewallError(msg) from error

    def _decide(self, pid: int, network: Network, of_node: frozenset[IPNetwork]) -> EgressDecision:
        decision = self._decide_egress(pid, network, of_node)
        if network.takes_mail:
            return replace(decision, hosts=((MAIL_HOST, MAIL_ADDRESS), *decision.hosts))
        return decision

    def _decide_egress(
        self, pid: int, network: Network, of_node: frozenset[IPNetwork]
    ) -> EgressDecision:
        if not network.egress:
            return EgressDecision()
        own = self._nearby.of_sandbox(pid)
        decision = decide_egress(
            network,
            self._settings.allowed_egress,
            of_node | own,
            self._resolver.addresses_of,
        )
        if any(
            each.version == 6 and not each.is_link_local and not each.is_loopback for each in own
        ):
            return decision
        # Applications try such an address first, which leads nowhere from here.
        of_ipv4 = tuple(pair for pair in decision.hosts if pair[1].version == 4)
        return replace(decision, hosts=of_ipv4)

    def _is_there(self, pid: int, guarded: _Guarded) -> bool:
        try:
            namespace = (self._proc / str(pid) / "ns/net").stat().st_ino
        except OSError:
            return False
        return guarded.namespace == namespace
