"""The lab's network: a bridge in a namespace of its own, a cable to each node, one to the machine.

    machine ── tinXh ─┐
                      │ tin-NAME:  bridge 198.18.X.1
    node-1 ── eth0 ───┤ (control plane, registry)
    node-2 ── eth0 ───┤
    machine-1 ── TAP ─┘

198.18.0.0/15 is set aside for tests (RFC 2544), so it collides with no real network. There is no
default route: nothing in the lab can reach the internet.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from lab import LabError, state
from lab.shell import run
from lab.state import Lab

NAMESPACES = Path("/run/netns")

_FIRST_NODE = 11
_FIRST_MACHINE = 101
_MACHINE = 254


def subnet(number: int) -> str:
    """The network of the lab with that number."""
    return f"198.18.{number}.0/24"


def control_plane_address(number: int) -> str:
    """Where the API server and the registry listen."""
    return f"198.18.{number}.1"


def node_address(number: int, node: str) -> str:
    """The address of node-1, node-2, … or machine-1, machine-2, …"""
    kind, _, which = node.rpartition("-")
    first = _FIRST_MACHINE if kind == "machine" else _FIRST_NODE
    return f"198.18.{number}.{first - 1 + int(which)}"


def machine_cable(number: int) -> str:
    """The interface by which this machine reaches the lab."""
    return f"tin{number}h"


def reserve(lab: Lab) -> int:
    """A network number that no other lab and no interface of this machine uses."""
    for other in state.known():
        written = state.shape(other)
        if other.name == lab.name and written:
            return written.network
    taken = {shape.network for other in state.known() if (shape := state.shape(other))}
    for interface in json.loads(run("ip", "-json", "address")):
        for address in interface["addr_info"]:
            octets = address["local"].split(".")
            if octets[:2] == ["198", "18"]:
                taken.add(int(octets[2]))
    for number in range(1, 255):
        if number not in taken:
            return number
    raise LabError("All of 198.18.1.0 to 198.18.254.0 are in use: take a lab down first.")


def build(lab: Lab, number: int, nodes: list[str], machines: list[str]) -> None:
    """Make the namespaces, the bridge and the cables."""
    hub = lab.namespace
    run("ip", "netns", "add", hub)
    for node in nodes:
        run("ip", "netns", "add", lab.node_namespace(node))
    _batch(
        hub,
        "link set lo up",
        "link add br0 type bridge forward_delay 0 stp_state 0",
        f"address add {control_plane_address(number)}/24 dev br0",
        "link set br0 up",
    )
    cable = machine_cable(number)
    _batch(
        None,
        f"link add {cable} type veth peer name machine netns {hub}",
        f"address add 198.18.{number}.{_MACHINE}/24 dev {cable}",
        f"link set {cable} up",
    )
    _batch(hub, "link set machine master br0 up")
    for node in nodes:
        namespace = lab.node_namespace(node)
        _batch(
            hub,
            f"link add {node} type veth peer name eth0 netns {namespace}",
            f"link set {node} master br0 up",
        )
        _batch(
            namespace,
            "link set lo up",
            f"address add {node_address(number, node)}/24 dev eth0",
            "link set eth0 up",
        )

    for machine in machines:
        _batch(hub, f"tuntap add dev {machine} mode tap", f"link set {machine} master br0 up")


def namespaces(lab: Lab) -> list[Path]:
    """The network namespaces that exist of a lab, known by their names alone."""
    if not NAMESPACES.is_dir():
        return []
    return sorted(
        path
        for path in NAMESPACES.iterdir()
        if path.name == lab.namespace or path.name.startswith(f"{lab.namespace}-")
    )


def remove(lab: Lab, number: int | None) -> None:
    """Remove all of it; what is not there is fine."""
    if number is not None:
        # The peer goes with its namespace too, but only some time after.
        subprocess.run(["ip", "link", "delete", machine_cable(number)], capture_output=True)
    for path in namespaces(lab):
        run("ip", "netns", "delete", path.name)
    if NAMESPACES.is_dir() and not any(NAMESPACES.iterdir()):
        # `ip netns add` made this mount; it makes it again when someone needs it.
        subprocess.run(["umount", str(NAMESPACES)], capture_output=True)
        NAMESPACES.rmdir()


def _batch(namespace: str | None, *commands: str) -> None:
    """Several `ip` commands in one process: forks are what takes the time here."""
    where = ["-netns", namespace] if namespace else []
    run("ip", *where, "-batch", "-", stdin="\n".join(commands) + "\n")
