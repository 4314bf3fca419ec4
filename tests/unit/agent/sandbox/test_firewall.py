"""The firewall, as nftables is told of it: in a sandbox, in one transaction, and never on the node.

What the rules do to packets is for the system tests.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tryitnow.agent.errors import FirewallError
from tryitnow.agent.sandbox.firewall import Firewall
from tryitnow.agent.sandbox.nftables import Nftables, NftablesError

GONE = 1 << 22
"""More than the kernel's greatest PID."""


@dataclass
class FakeNftables(Nftables):
    """Notes what it is told, and where."""

    scripts: list[tuple[str, Path]] = field(default_factory=list)
    output: str = ""
    error: str | None = None

    def run(self, script: str) -> str:
        self.scripts.append((script, Path("/proc/thread-self/ns/net").readlink()))
        if self.error is not None:
            raise NftablesError(self.error)
        return self.output

    @property
    def reported(self) -> str:
        return "\n".join(script for script, _ in self.scripts)


@pytest.fixture
def nft() -> FakeNftables:
    return FakeNftables()


@pytest.fixture
def firewall(nft: FakeNftables) -> Firewall:
    return Firewall(nft)


@pytest.fixture
def sandbox() -> Iterator[int]:
    """A process with a network of its own."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo there; exec sleep 60"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


async def test_a_closed_firewall_lets_nobody_in(
    nft: FakeNftables, firewall: Firewall, sandbox: int
) -> None:
    await firewall.close(sandbox)
    assert "policy drop" in nft.reported
    assert "ct state established,related accept" in nft.reported
    assert 'iifname "lo" accept' in nft.reported
    assert "dport" not in nft.reported
    assert "tcp drop" not in nft.reported


async def test_a_blocked_one_lets_no_tcp_move_inside_either(
    nft: FakeNftables, firewall: Firewall, sandbox: int
) -> None:
    await firewall.close(sandbox, tcp_blocked=True)
    assert "blocked meta l4proto tcp drop" in nft.reported


async def test_an_open_one_lets_clients_in_to_the_published_ports_alone(
    nft: FakeNftables, firewall: Firewall, sandbox: int
) -> None:
    await firewall.open(sandbox, [8443, 8080, 8080])
    assert "tcp dport { 8080, 8443 } accept" in nft.reported
    assert "policy drop" in nft.reported


async def test_all_rules_are_one_transaction_in_the_sandbox(
    nft: FakeNftables, firewall: Firewall, sandbox: int
) -> None:
    await firewall.open(sandbox, [8080])
    text, where = nft.scripts[-1]
    script = text.splitlines()
    assert where == Path(f"/proc/{sandbox}/ns/net").readlink()
    assert script[0] == "add table inet tryitnow"
    assert "flush chain inet tryitnow input" in script, "what was there before is gone"


def listed(*, blocked: str = "", opened: str = "") -> str:
    """Return the table as nftables 1.1 lists it."""
    return (
        "table inet tryitnow {\n\tchain blocked {\n"
        "\t\ttype filter hook input priority raw; policy accept;\n"
        f"{blocked}\t}}\n\n\tchain input {{\n"
        "\t\ttype filter hook input priority filter; policy drop;\n"
        '\t\tiifname "lo" accept\n\t\tct state established,related accept\n'
        f"\t\tmeta l4proto ipv6-icmp accept\n{opened}\t}}\n}}\n"
    )


DROPS = "\t\tmeta l4proto tcp drop\n"
PASSES = "\t\taccept\n"
IS_OPEN = "\t\ttcp dport 8080 accept\n"

ACCEPT = "add rule inet tryitnow input tcp dport { 8080 } accept"
UNBLOCK = "insert rule inet tryitnow blocked accept"


@pytest.mark.parametrize(
    ("before", "ports", "additions"),
    [
        (listed(), [8080], [ACCEPT]),
        (listed(blocked=DROPS), [8080], [UNBLOCK, ACCEPT]),
        (listed(blocked=PASSES + DROPS), [8080], [ACCEPT]),
        (listed(blocked=DROPS), [], [UNBLOCK]),
    ],
    ids=["open", "open a blocked one", "open one that was blocked", "unblock"],
)
async def test_what_is_set_is_only_added_to(
    nft: FakeNftables,
    firewall: Firewall,
    sandbox: int,
    before: str,
    ports: list[int],
    additions: list[str],
) -> None:
    """The kernel waits for its cores where a rule goes, and a client for the kernel."""
    nft.output = before
    await (firewall.open(sandbox, ports) if ports else firewall.close(sandbox))
    assert nft.scripts[-1][0].splitlines() == additions


@pytest.mark.parametrize(
    ("before", "ports"),
    [
        (listed(opened=IS_OPEN), []),
        (listed(opened=IS_OPEN), [8081]),
        (listed(), []),
        ("table inet tryitnow {\n}\n", [8080]),
    ],
    ids=["close", "other ports", "close again", "half of it"],
)
async def test_all_is_set_where_something_may_have_to_go(
    nft: FakeNftables, firewall: Firewall, sandbox: int, before: str, ports: list[int]
) -> None:
    nft.output = before
    await (firewall.open(sandbox, ports) if ports else firewall.close(sandbox))
    assert "flush chain inet tryitnow input" in nft.scripts[-1][0].splitlines()


@pytest.mark.parametrize(
    ("chain", "expected"),
    [("tcp dport { 8080 } accept", True), ("policy drop", False)],
    ids=["open", "closed"],
)
async def test_it_knows_whether_it_is_open(
    nft: FakeNftables, firewall: Firewall, sandbox: int, chain: str, *, expected: bool
) -> None:
    nft.output = chain
    assert await firewall.is_open(sandbox) is expected


async def test_one_that_nobody_has_set_up_is_not_open(
    nft: FakeNftables, firewall: Firewall, sandbox: int
) -> None:
    nft.error = "Error: No such file or directory"
    assert not await firewall.is_open(sandbox)


async def test_what_nft_says_is_reported(
    nft: FakeNftables, firewall: Firewall, sandbox: int
) -> None:
    nft.error = "Operation not supported"
    with pytest.raises(FirewallError, match="cannot be set: Operation not supported"):
        await firewall.close(sandbox)
    with pytest.raises(FirewallError, match="Operation not supported"):
        await firewall.is_open(sandbox)


@pytest.mark.parametrize("pid", [os.getpid(), os.getppid()], ids=["ours", "another"])
async def test_the_nodes_own_network_is_never_closed(
    nft: FakeNftables, firewall: Firewall, pid: int
) -> None:
    """A process that ended, whose number another process of the node has by now."""
    with pytest.raises(FirewallError, match="in no sandbox any more"):
        await firewall.close(pid)
    with pytest.raises(FirewallError):
        await firewall.open(pid, [80])
    with pytest.raises(FirewallError):
        await firewall.is_open(pid)
    assert nft.scripts == []


async def test_a_sandbox_that_is_gone_is_reported_to_be(
    nft: FakeNftables, firewall: Firewall
) -> None:
    with pytest.raises(FirewallError, match=f"process {GONE} is gone"):
        await firewall.close(GONE)
    assert nft.scripts == []


async def test_a_thread_is_back_in_its_own_network_afterwards(
    nft: FakeNftables, firewall: Firewall, sandbox: int
) -> None:
    nft.error = "refused"
    with pytest.raises(FirewallError):
        await firewall.close(sandbox)
    own = Path("/proc/self/ns/net").readlink()
    for _ in range(50):
        assert await asyncio.to_thread(Path("/proc/thread-self/ns/net").readlink) == own


def test_a_node_without_the_library_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tryitnow.agent.sandbox.nftables._LIBRARY", "libnftables.so.none")
    with pytest.raises(NftablesError, match="install nftables"):
        Nftables().run("list tables")
