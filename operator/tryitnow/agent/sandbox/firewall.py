"""The firewall of a sandbox: a table of nftables in its network namespace, for its whole life.

Closed, it lets in what belongs to connections from inside, and nothing else. Open, it lets in TCP
to the published ports as well. Blocked, no TCP moves at all, also not between the containers. The
agent's own requests come from inside the namespace (``probe``), where the firewall lets them pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tryitnow.agent.errors import FirewallError
from tryitnow.commands import run

TABLE = "tryitnow"

_SECONDS = 10.0
"""For a call that takes 15 ms."""

_BLOCKED = f"""
add chain inet {TABLE} blocked {{ type filter hook input priority raw; policy accept; }}
flush chain inet {TABLE} blocked
add rule inet {TABLE} blocked meta l4proto tcp drop
"""
"""Connections between containers that are checkpointed or restored one after the other must not
speak before both ends are there: the kernel's answer that there is no such connection would end
them. Dropped packets are sent again."""

_UNBLOCKED = f"""
add chain inet {TABLE} blocked {{ type filter hook input priority raw; policy accept; }}
flush chain inet {TABLE} blocked
"""


def _input(open_ports: Iterable[int]) -> str:
    """Return the chain through which everything goes that comes into the namespace."""
    ports = ", ".join(str(port) for port in sorted(set(open_ports)))
    accepted = f"add rule inet {TABLE} input tcp dport {{ {ports} }} accept\n" if ports else ""
    return (
        f"add chain inet {TABLE} input"
        " { type filter hook input priority filter; policy drop; }\n"
        f"flush chain inet {TABLE} input\n"
        f'add rule inet {TABLE} input iifname "lo" accept\n'
        f"add rule inet {TABLE} input ct state established,related accept\n"
        # Without it IPv6 finds no neighbour (RFC 4890, section 4.4.1).
        f"add rule inet {TABLE} input meta l4proto ipv6-icmp accept\n"
        f"{accepted}"
    )


class Firewall:
    """Sets the firewalls of this node's sandboxes."""

    async def close(self, pid: int, *, tcp_blocked: bool = False) -> None:
        """Let no client in; with ``tcp_blocked`` nothing moves inside either.

        Args:
            pid: A process in the sandbox's network namespace.
            tcp_blocked: Whether TCP between the containers is dropped as well.

        Raises:
            FirewallError: nft is missing or refused, or the process is not in a sandbox.

        """
        blocked = _BLOCKED if tcp_blocked else _UNBLOCKED
        await _apply(pid, f"add table inet {TABLE}\n{blocked}{_input(())}")

    async def open(self, pid: int, ports: Iterable[int]) -> None:
        """Let clients in to these ports of the containers.

        Raises:
            FirewallError: nft is missing or refused, or the process is not in a sandbox.

        """
        await _apply(pid, f"add table inet {TABLE}\n{_UNBLOCKED}{_input(ports)}")

    async def is_open(self, pid: int) -> bool:
        """Whether clients are let in.

        Raises:
            FirewallError: nft is missing or refused, or the process is not in a sandbox.

        """
        try:
            listed = await _nft(pid, "list", "chain", "inet", TABLE, "input")
        except FirewallError as error:
            if "No such file or directory" in str(error):
                return False  # nobody has set it up: a start was interrupted
            raise
        return "dport" in listed


async def _apply(pid: int, script: str) -> None:
    # One file is one transaction: there is no moment with half of the rules.
    await _nft(pid, "-f", "-", script=script)


def _is_sandbox(namespace: int) -> bool:
    """Whether a network namespace is another than the node's own.

    The process may have ended, and its number may belong to another in the node's own network: a
    closed firewall there would cut the node off.
    """
    return os.fstat(namespace).st_ino != Path("/proc/self/ns/net").stat().st_ino


async def _nft(pid: int, *words: str, script: str = "") -> str:
    # What is looked at is what is used, whoever has the number by then.
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    except OSError as error:
        msg = f"the sandbox of process {pid} is gone: {error}"
        raise FirewallError(msg) from error
    try:
        if not _is_sandbox(namespace):
            msg = f"process {pid} is in no sandbox any more"
            raise FirewallError(msg)
        return await _run(namespace, words, script)
    finally:
        os.close(namespace)


async def _run(namespace: int, words: tuple[str, ...], script: str) -> str:
    argv = ("nsenter", f"--net=/proc/self/fd/{namespace}", "nft", *words)
    try:
        ended = await run(*argv, seconds=_SECONDS, text=script, descriptors=(namespace,))
    except TimeoutError as error:
        msg = f"nft did not end within {_SECONDS:g} s; the node is overloaded"
        raise FirewallError(msg) from error
    except OSError as error:
        msg = f"{argv[0]} cannot be run on the node: {error}; install util-linux and nftables"
        raise FirewallError(msg) from error
    if ended.status != 0:
        msg = (
            f"the firewall of the sandbox cannot be set: {ended.complaints}; is nftables installed?"
        )
        raise FirewallError(msg)
    return ended.output
