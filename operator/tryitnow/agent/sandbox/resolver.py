"""Names of hosts in ``spec.network.egress``: looked up by the agent, and again as they expire.

The sandbox asks no DNS server: what the agent found is in its ``/etc/hosts`` and in its firewall at
the same time. So what an application connects to is always what is open, also where a name has
other addresses at each question; a demo has no DNS to carry data out by; and it knows no name that
it was not given.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

from tryitnow.agent.sandbox.egress import HostAddresses
from tryitnow.api.network import IPAddress

logger = logging.getLogger(__name__)

SHORTEST_SECONDS = 15.0
LONGEST_SECONDS = 3600.0
"""Bounds for how long an answer holds, whatever its TTL: some say 0, some say days."""

AGAIN_SECONDS = 15.0
"""Before a name is asked again that got no answer."""

KEPT_SECONDS = 600.0
"""For how long an address stays after it was last in an answer: applications remember addresses,
and names with many answer with some of them each time."""

MOST_ADDRESSES = 64
"""Of one name; the newest count."""

QUERY_SECONDS = 5.0
"""For one name, all servers and tries together."""

AT_ONCE = 16


@dataclass(frozen=True)
class Answer:
    """The answer to a question for a name."""

    addresses: tuple[IPAddress, ...]
    ttl: float


class NoAnswerError(Exception):
    """A name has no address; the message says why.

    Attributes:
        is_final: Whether the servers know that there is none.

    """

    def __init__(self, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


Lookup = Callable[[str], Awaitable[Answer]]


def dns_lookup(servers: Sequence[IPAddress]) -> Lookup:
    """Return what asks these servers; those of /etc/resolv.conf where there are none."""

    async def look_up(host: str) -> Answer:
        # Made each time: /etc/resolv.conf may have changed.
        resolver = dns.asyncresolver.Resolver(configure=not servers)
        if servers:
            resolver.nameservers = [str(server) for server in servers]
        resolver.lifetime = QUERY_SECONDS
        kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
        asked = [resolver.resolve(host, kind, search=False) for kind in kinds]
        found = await asyncio.gather(*asked, return_exceptions=True)
        answers = [each for each in found if isinstance(each, dns.resolver.Answer)]
        addresses = tuple(
            ipaddress.ip_address(record.address) for each in answers for record in each
        )
        if addresses:
            return Answer(addresses, min(each.rrset.ttl for each in answers if each.rrset))
        for error in found:
            if isinstance(error, BaseException) and not isinstance(
                error, dns.exception.DNSException
            ):
                raise error
        failed = next(each for each in found if isinstance(each, dns.exception.DNSException))
        final = (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer)
        raise NoAnswerError(str(failed), is_final=all(isinstance(each, final) for each in found))

    return look_up


@dataclass
class _Name:
    seen: dict[IPAddress, float] = field(default_factory=dict)
    """When each address was last in an answer."""

    due_at: float = float("-inf")
    problem: str = ""


class Resolver:
    """Knows the addresses of hosts, and keeps them fresh."""

    def __init__(self, lookup: Lookup, clock: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup
        self._clock = clock
        self._names: dict[str, _Name] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def addresses_of(self, host: str) -> HostAddresses:
        """Return what is known of a host. Asks nobody."""
        name = self._names.get(host)
        if name is None:
            return HostAddresses()
        # In a fixed order: another one would be a change of all firewalls.
        return HostAddresses(
            tuple(sorted(name.seen, key=lambda a: (a.version, int(a)))), name.problem
        )

    async def learn(self, hosts: Iterable[str]) -> None:
        """Look up those that were never looked up. Never raises."""
        await self._ask({host for host in hosts if host not in self._names})

    async def refresh(self, hosts: Iterable[str]) -> None:
        """Look up all that are due, and forget the names that nobody needs. Never raises."""
        wanted = set(hosts)
        for host in set(self._names) - wanted:
            del self._names[host]
        now = self._clock()
        await self._ask({h for h in wanted if h not in self._names or self._names[h].due_at <= now})

    async def _ask(self, hosts: set[str]) -> None:
        await asyncio.gather(*(self._ask_one(host) for host in sorted(hosts)))

    async def _ask_one(self, host: str) -> None:
        name = self._names.setdefault(host, _Name())
        try:
            async with self._turns, asyncio.timeout(QUERY_SECONDS + 1):
                answer = await self._lookup(host)
        except (NoAnswerError, TimeoutError, OSError, dns.exception.DNSException) as error:
            is_final = isinstance(error, NoAnswerError) and error.is_final
            self._missed(host, name, str(error) or "no answer in time", is_final=is_final)
            return
        now = self._clock()
        name.seen |= dict.fromkeys(answer.addresses, now)
        name.problem = ""
        name.due_at = now + min(max(answer.ttl, SHORTEST_SECONDS), LONGEST_SECONDS)
        self._drop_old(name, now)

    def _missed(self, host: str, name: _Name, why: str, *, is_final: bool) -> None:
        if not name.problem:
            logger.warning("%s cannot be looked up: %s", host, why)
        now = self._clock()
        name.problem = why
        name.due_at = now + AGAIN_SECONDS
        if is_final:
            # Where the servers are silent, what is known stays: demos go on.
            self._drop_old(name, now)

    @staticmethod
    def _drop_old(name: _Name, now: float) -> None:
        newest = sorted(name.seen, key=lambda address: -name.seen[address])[:MOST_ADDRESSES]
        name.seen = {a: name.seen[a] for a in newest if now - name.seen[a] <= KEPT_SECONDS}
