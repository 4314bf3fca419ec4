"""The decision what a sandbox may reach: asked for, allowed, and not too near. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tryitnow.agent.sandbox.nearby import NOT_PUBLIC
from tryitnow.api.network import (
    AllowedEgress,
    EgressRule,
    IPAddress,
    IPNetwork,
    Network,
    Protocol,
    is_within,
)


class EgressReason(StrEnum):
    """Why something that was asked for stays closed: reason of a condition."""

    NOT_ALLOWED = "EgressNotAllowed"
    NOT_RESOLVED = "EgressNotResolved"


@dataclass(frozen=True)
class EgressProblem:
    """Something that was asked for and stays closed."""

    reason: EgressReason
    message: str


@dataclass(frozen=True)
class Opening:
    """Connections that are let out."""

    targets: tuple[IPNetwork, ...]
    exceptions: tuple[IPNetwork, ...]
    """Parts of the targets that stay closed."""

    ports: tuple[int, ...]
    protocol: Protocol


@dataclass(frozen=True)
class HostAddresses:
    """The addresses of a host, as they were looked up."""

    addresses: tuple[IPAddress, ...] = ()
    problem: str = ""
    """Why there are none."""


@dataclass(frozen=True)
class EgressDecision:
    """What is let out, and what of that which was asked for is not."""

    openings: tuple[Opening, ...] = ()
    hosts: tuple[tuple[str, IPAddress], ...] = ()
    """Names and addresses that the containers find in /etc/hosts."""

    problems: tuple[EgressProblem, ...] = ()


def decide_egress(
    network: Network,
    allowed: Sequence[AllowedEgress],
    nearby: Iterable[IPNetwork],
    addresses_of: Callable[[str], HostAddresses],
) -> EgressDecision:
    """Decide what a sandbox may reach.

    Args:
        network: What its definition asks for.
        allowed: What the administrator allows.
        nearby: What stays closed unless an entry of ``allowed`` lies within it.
        addresses_of: Tells the known addresses of a host.

    """
    near = tuple(nearby)
    openings: list[Opening] = []
    hosts: dict[tuple[str, IPAddress], None] = {}
    problems: list[EgressProblem] = []
    for number, rule in enumerate(network.egress):
        where = f"spec.network.egress[{number}]"
        covering = [entry for entry in allowed if entry.covers(rule)]
        if not covering:
            problems.append(_not_allowed(where, rule, allowed))
            continue
        if rule.network is not None:
            found = _of_range(where, rule, rule.network, (*near, *NOT_PUBLIC), allowed)
        else:
            # A private host that the administrator names himself is meant: its address is private.
            is_named = any(entry.host == rule.host for entry in covering)
            closed = near if is_named else (*near, *NOT_PUBLIC)
            found = _of_host(where, rule, closed, allowed, addresses_of)
        if isinstance(found, EgressProblem):
            problems.append(found)
            continue
        openings.append(found)
        if rule.host is not None:
            hosts |= {(rule.host, each.network_address): None for each in found.targets}
    return EgressDecision(tuple(openings), tuple(hosts), tuple(problems))


def _closing(
    target: IPNetwork,
    rule: EgressRule,
    closed: Iterable[IPNetwork],
    allowed: Sequence[AllowedEgress],
) -> IPNetwork | None:
    """Return what keeps a target closed: a network around it that no entry within it opens."""
    ranges = [e.network for e in allowed if e.network is not None and e.covers_ports(rule)]
    for each in closed:
        if is_within(target, each) and not any(
            is_within(target, entry) and is_within(entry, each) for entry in ranges
        ):
            return each
    return None


def _of_range(
    where: str,
    rule: EgressRule,
    wanted: IPNetwork,
    closed: Sequence[IPNetwork],
    allowed: Sequence[AllowedEgress],
) -> Opening | EgressProblem:
    around = _closing(wanted, rule, closed, allowed)
    if around is not None:
        return EgressProblem(
            EgressReason.NOT_ALLOWED,
            f"{where}.cidr: {wanted} is in {around}, which no wide range opens: the node, the "
            "API server, metadata, other demos, and networks that are not public. An "
            "administrator opens it by an entry of agent.network.allowedEgress that lies "
            f"within {around}",
        )
    within = (each for each in closed if each != wanted and is_within(each, wanted))
    return Opening((wanted,), _collapsed(within), rule.ports, rule.protocol)


def _of_host(
    where: str,
    rule: EgressRule,
    closed: Sequence[IPNetwork],
    allowed: Sequence[AllowedEgress],
    addresses_of: Callable[[str], HostAddresses],
) -> Opening | EgressProblem:
    assert rule.host is not None
    known = addresses_of(rule.host)
    if not known.addresses:
        why = known.problem or "it is being looked up"
        return EgressProblem(
            EgressReason.NOT_RESOLVED,
            f"{where}.host: {rule.host} has no known address: {why}. It stays closed until it has; "
            "the agent asks again and again",
        )
    singles = [ipaddress.ip_network(address) for address in known.addresses]
    around = {single: _closing(single, rule, closed, allowed) for single in singles}
    targets = tuple(single for single in singles if around[single] is None)
    if not targets:
        shown = ", ".join(f"{single.network_address} in {around[single]}" for single in singles)
        return EgressProblem(
            EgressReason.NOT_ALLOWED,
            f"{where}.host: {rule.host} leads to {shown}, which the name does not open. An "
            "administrator opens it by an entry of agent.network.allowedEgress with a cidr that "
            "lies within it or, for a network that is not public, with the whole name",
        )
    return Opening(targets, (), rule.ports, rule.protocol)


def _not_allowed(where: str, rule: EgressRule, allowed: Sequence[AllowedEgress]) -> EgressProblem:
    ports = ", ".join(str(port) for port in rule.ports)
    field = "host" if rule.host is not None else "cidr"
    bound = "is empty" if not allowed else "has no entry that covers it"
    return EgressProblem(
        EgressReason.NOT_ALLOWED,
        f"{where}.{field}: {rule.target} ({rule.protocol} {ports}) is more than the administrator "
        f"allows: agent.network.allowedEgress {bound}. Ask for less, or have an administrator add "
        "an entry there (a value of the chart)",
    )


def _collapsed(networks: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """Return networks of one version without those that lie in others."""
    found: list[IPNetwork] = []
    for each in sorted(set(networks), key=lambda network: network.prefixlen):
        if not any(is_within(each, other) for other in found):
            found.append(each)
    return tuple(sorted(found, key=lambda network: int(network.network_address)))
