"""The firewall of a sandbox: a table of nftables in its network namespace, for its whole life.

Closed, it lets in what belongs to connections from inside, and nothing else. Open, it lets in TCP
to the published ports as well. Blocked, no TCP moves at all, also not between the containers. The
agent's own requests come from inside the namespace (``probe``), where the firewall lets them pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tryitnow.agent.errors import FirewallError
from tryitnow.agent.sandbox.namespaces import network_of
from tryitnow.agent.sandbox.nftables import Nftables, NftablesError
from tryitnow.background import in_thread

TABLE = "tryitnow"

_UNBLOCKED = f"""
add chain inet {TABLE} blocked {{ type filter hook input priority raw; policy accept; }}
flush chain inet {TABLE} blocked
"""

_BLOCKED = f"{_UNBLOCKED}add rule inet {TABLE} blocked meta l4proto tcp drop\n"
"""Connections between containers that are checkpointed or restored one after the other must not
speak before both ends are there: the kernel's answer that there is no such connection would end
them. Dropped packets are sent again."""

_PASSES = re.compile(r"chain blocked {[^}]*policy accept;\s*accept\s")
"""How a listing shows a chain ``blocked`` that was opened by a rule before the one that drops."""


def _whole(ports: Iterable[int], *, tcp_blocked: bool) -> str:
    """Return all rules, in the place of whatever is set."""
    return (
        f"add table inet {TABLE}\n"
        f"{_BLOCKED if tcp_blocked else _UNBLOCKED}"
        # Everything that comes into the namespace goes through it.
        f"add chain inet {TABLE} input"
        " { type filter hook input priority filter; policy drop; }\n"
        f"flush chain inet {TABLE} input\n"
        f'add rule inet {TABLE} input iifname "lo" accept\n'
        f"add rule inet {TABLE} input ct state established,related accept\n"
        # Without it IPv6 finds no neighbour (RFC 4890, section 4.4.1).
        f"add rule inet {TABLE} input meta l4proto ipv6-icmp accept\n"
        f"{_accepted(ports)}"
    )


def _accepted(ports: Iterable[int]) -> str:
    found = ", ".join(str(port) for port in sorted(set(ports)))
    return f"add rule inet {TABLE} input tcp dport {{ {found} }} accept\n" if found else ""


def _additions(listed: str, ports: Iterable[int]) -> str | None:
    """Return what is to be added to what is set; None where that does not do.

    Where a rule goes, the kernel lets nobody on before all of its cores have let go of it: 5 to
    20 ms, for which a client would wait.
    """
    if "chain input" not in listed or "dport" in listed:
        return None
    is_blocked = "tcp drop" in listed and not _PASSES.search(listed)
    unblocked = f"insert rule inet {TABLE} blocked accept\n" if is_blocked else ""
    return unblocked + _accepted(ports) or None


class Firewall:
    """Sets the firewalls of this node's sandboxes."""

    def __init__(self, nftables: Nftables | None = None) -> None:
        self._nftables = nftables or Nftables()

    async def close(self, pid: int, *, tcp_blocked: bool = False) -> None:
        """Let no client in; with ``tcp_blocked`` nothing moves inside either.

        Args:
            pid: A process in the sandbox's network namespace.
            tcp_blocked: Whether TCP between the containers is dropped as well.

        Raises:
            FirewallError: nftables is missing or refused, or the process is not in a sandbox.

        """
        await in_thread(self._change, pid, (), tcp_blocked=tcp_blocked)

    async def open(self, pid: int, ports: Iterable[int]) -> None:
        """Let clients in to these ports of the containers.

        Raises:
            FirewallError: nftables is missing or refused, or the process is not in a sandbox.

        """
        await in_thread(self._change, pid, tuple(ports))

    async def is_open(self, pid: int) -> bool:
        """Whether clients are let in.

        Raises:
            FirewallError: nftables is missing or refused, or the process is not in a sandbox.

        """
        return "dport" in await in_thread(self._list, pid)

    def _change(self, pid: int, ports: tuple[int, ...], *, tcp_blocked: bool = False) -> None:
        script = None if tcp_blocked else _additions(self._list(pid), ports)
        self._run(pid, script or _whole(ports, tcp_blocked=tcp_blocked))

    def _list(self, pid: int) -> str:
        try:
            return self._run(pid, f"list table inet {TABLE}")
        except FirewallError as error:
            if "No such file or directory" in str(error):
                return ""  # nobody has set it up: a start was interrupted
            raise

    def _run(self, pid: int, script: str) -> str:
        try:
            with network_of(pid):
                # One script is one transaction: there is no moment with half of the rules.
                return self._nftables.run(script)
        except OSError as error:
            msg = f"the sandbox of process {pid} is gone: {error}"
            raise FirewallError(msg) from error
        except NftablesError as error:
            msg = f"the firewall of the sandbox cannot be set: {error}"
            raise FirewallError(msg) from error
