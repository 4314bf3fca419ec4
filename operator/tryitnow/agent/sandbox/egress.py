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
        closed = _closed(rule, covering, near)
        if rule.network is not None:
            found = _of_range(where, rule, rule.network, closed)
        else:
            found = _of_host(where, rule, closed, addresses_of)
        if isinstance(found, EgressProblem):
            problems.append(found)
            continue
        openings.append(found)
        if rule.host is not None:
            hosts |= {(rule.host, each.network_address): None for each in found.targets}
    return EgressDecision(tuple(openings), tuple(hosts), tuple(problems))


def _closed(
    rule: EgressRule, covering: Iterable[AllowedEgress], near: Iterable[IPNetwork]
) -> list[IPNetwork]:
    """Return the networks that stay closed, whatever a rule asks for."""
    entries = list(covering)
    ranges = [entry.network for entry in entries if entry.network is not None]

    def is_open(closed: IPNetwork) -> bool:
        return any(is_within(each, closed) for each in ranges)

    closed = [each for each in near if not is_open(each)]
    # A private host that the administrator names himself is meant: its own address is private.
    if not any(entry.host is not None and entry.host == rule.host for entry in entries):
        closed += [each for each in NOT_PUBLIC if not is_open(each)]
    return closed


def _of_range(
    where: str, rule: EgressRule, wanted: IPNetwork, closed: Iterable[IPNetwork]
) -> Opening | EgressProblem:
    exceptions = []
    for each in closed:
        if is_within(wanted, each):
            return EgressProblem(
                EgressReason.NOT_ALLOWED,
                f"{where}.cidr: {wanted} is in {each}, which no wide range opens: the node, the "
                "API server, metadata, other demos, and networks that are not public. An "
                "administrator opens it by an entry of agent.network.allowedEgress that lies "
                f"within {each}",
            )
        if is_within(each, wanted):
            exceptions.append(each)
    return Opening((wanted,), _collapsed(exceptions), rule.ports, rule.protocol)


def _of_host(
    where: str,
    rule: EgressRule,
    closed: Sequence[IPNetwork],
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
    targets, near = [], None
    for address in known.addresses:
        single = ipaddress.ip_network(address)
        near = next((each for each in closed if is_within(single, each)), None) or near
        if not any(is_within(single, each) for each in closed):
            targets.append(single)
    if not targets:
        shown = ", ".join(str(each) for each in known.addresses)
        return EgressProblem(
            EgressReason.NOT_ALLOWED,
            f"{where}.host: {rule.host} leads to {shown}, in {near}, which the name alone does not "
            "open. An administrator opens it by an entry of agent.network.allowedEgress with the "
            "whole name (for a private network), or with a cidr that lies within it",
        )
    return Opening(tuple(targets), (), rule.ports, rule.protocol)


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
