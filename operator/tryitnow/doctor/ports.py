"""Ports and addresses of demos, against others on the node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tryitnow.api.nodeagent import Check
from tryitnow.doctor.facts import NodeFacts
from tryitnow.doctor.host import Process
from tryitnow.doctor.names import CheckName
from tryitnow.doctor.network import Listener, strays
from tryitnow.doctor.podman import PodmanFacts
from tryitnow.doctor.verdicts import failed, passed, sysctl, warned

_SHOWN = 3
"""Listeners that are named: the others are a number."""


def ports(facts: NodeFacts) -> Iterator[Check]:
    """Judge ports and addresses."""
    # Who listens is root's to see; without it Podman's own ports look like those of others.
    if facts.user == 0:
        yield _ports(facts)
    if facts.limits.local_ports is not None:
        yield _local_ports(facts, facts.limits.local_ports)
    if facts.podman is not None and facts.podman.networks:
        yield _network(facts, facts.podman)


def _strays(facts: NodeFacts) -> tuple[Process, ...]:
    return strays(facts.network.conmons, facts.podman.container_ids if facts.podman else None)


def _is_foreign(listener: Listener, stray: Sequence[Process]) -> bool:
    process = listener.process
    if process is None or process in stray:
        return True
    # Podman itself has a port until conmon has it.
    return not process.container and process.name != "podman"


def _ports(facts: NodeFacts) -> Check:
    name, stray = CheckName.PORTS, _strays(facts)
    listeners = [each for each in facts.network.listeners if _is_foreign(each, stray)]
    span = _words(facts.wanted.ports)
    free = len(facts.wanted.ports) - len(listeners)
    if not listeners:
        return passed(name, f"{span}; no other program listens there")
    found = f"{_named(listeners)} of {span}, where others listen"
    remedy = (
        "stop them (`ss --listening --tcp --processes` shows all), or choose a PORT_RANGE "
        "(`agent.portRange`) without them"
    )
    if any(listener.process in stray for listener in listeners):
        remedy += (
            "; a conmon among them is another Podman's, or was left behind when Podman was killed: "
            "`kill` it then"
        )
    if free == 0:
        return failed(name, f"{found}: no port is left for a demo", remedy)
    if free < facts.wanted.demos:
        found += f": ports for {free} of {facts.wanted.demos} demos are left"
    return warned(name, found, remedy)


def _named(listeners: Sequence[Listener]) -> str:
    shown = [f"{each.port} ({_who(each.process)})" for each in listeners[:_SHOWN]]
    more = len(listeners) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _who(process: Process | None) -> str:
    if process is None:
        return "a process that is not visible from here"
    return f"{process.name}, process {process.pid}"


def _local_ports(facts: NodeFacts, local: range) -> Check:
    name, reserved = CheckName.LOCAL_PORTS, facts.limits.reserved_ports
    both = range(max(local.start, facts.wanted.ports.start),
                 min(local.stop, facts.wanted.ports.stop))  # fmt: skip
    open_to_all = [port for port in both if not any(port in other for other in reserved)]
    span = _words(facts.wanted.ports)
    if not both:
        return passed(name, f"{_words(local)}, beside {span}")
    if not open_to_all:
        return passed(name, f"{_words(local)}, but {_words(both)} is reserved for demos")
    kept = ",".join(_words(ports) for ports in (*reserved, both))
    return warned(
        name,
        f"connections of the node begin at {_words(local)}, {_words(both)} of the demos' {span} "
        "included: now and then one takes the port of a demo",
        f"{sysctl({'net.ipv4.ip_local_reserved_ports': kept})}; or another PORT_RANGE "
        "(`agent.portRange`)",
    )


def _network(facts: NodeFacts, podman: PodmanFacts) -> Check:
    name = CheckName.NETWORK
    mine = ", ".join(str(network) for network in podman.networks)
    remedy = (
        "while no demo runs, give demos another network: default_subnet under [network] in "
        "containers.conf (`agent.podman.containersConf`)"
    )
    others = [route for route in facts.network.routes if route.interface != podman.bridge]
    for network in podman.networks:
        for route in others:
            if route.network.subnet_of(network):
                return failed(
                    name,
                    f"demos have {mine}, and the node reaches {route.network} by "
                    f"{route.interface}: packets go to the wrong one of them",
                    remedy,
                )
    for network in podman.networks:
        for pods in facts.network.cni:
            if pods.overlaps(network):
                return warned(
                    name,
                    f"demos have {mine}, and Pods of this node get addresses of {pods} "
                    "(/etc/cni/net.d)",
                    remedy,
                )
        for route in others:
            if route.network.overlaps(network):
                return warned(
                    name,
                    f"demos have {mine}, a part of {route.network} that the node reaches by "
                    f"{route.interface}: from this node that part is out of reach",
                    remedy,
                )
    if stray := _strays(facts):
        seen = ", ".join(str(process.pid) for process in stray[:_SHOWN])
        return warned(
            name,
            f"demos have {mine}, and {len(stray)} containers here are not of this Podman (their "
            f"conmon: process {seen}): another Podman gives the same addresses away, or they were "
            "left behind when this one was killed",
            f"`ps -o args= -p {stray[0].pid}` names the container; `kill` what was left behind, "
            f"and for another Podman, {remedy}",
        )
    return passed(name, f"{mine}, on no other network of the node")


def _words(span: range) -> str:
    last = span.stop - 1
    return str(span.start) if span.start == last else f"{span.start}-{last}"
