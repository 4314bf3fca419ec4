"""The firewall, as it is told to nft: in a sandbox, in one transaction, and never on the node.

What the rules do to packets is for the system tests.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tryitnow.agent.errors import FirewallError
from tryitnow.agent.sandbox.firewall import Firewall

GONE = 1 << 22
"""More than the kernel's greatest PID."""


@dataclass
class Nft:
    """A program in the place of nft that notes what it is told, and where."""

    directory: Path

    def does(self, script: str) -> None:
        program = self.directory / "nft"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    @property
    def reported(self) -> str:
        return (self.directory / "told").read_text()

    @property
    def was_called(self) -> bool:
        return (self.directory / "told").exists()


@pytest.fixture
def nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nft:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    nft = Nft(tmp_path)
    nft.does(
        f'echo "$@ in $(readlink /proc/self/ns/net)" >> {tmp_path}/told; cat >> {tmp_path}/told'
    )
    return nft


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


async def test_a_closed_firewall_lets_nobody_in(nft: Nft, sandbox: int) -> None:
    await Firewall().close(sandbox)
    assert "policy drop" in nft.reported
    assert "ct state established,related accept" in nft.reported
    assert 'iifname "lo" accept' in nft.reported
    assert "dport" not in nft.reported
    assert "tcp drop" not in nft.reported


async def test_a_blocked_one_lets_no_tcp_move_inside_either(nft: Nft, sandbox: int) -> None:
    await Firewall().close(sandbox, tcp_blocked=True)
    assert "blocked meta l4proto tcp drop" in nft.reported


async def test_an_open_one_lets_clients_in_to_the_published_ports_alone(
    nft: Nft, sandbox: int
) -> None:
    await Firewall().open(sandbox, [8443, 8080, 8080])
    assert "tcp dport { 8080, 8443 } accept" in nft.reported
    assert "policy drop" in nft.reported


async def test_all_rules_are_one_transaction_in_the_sandbox(nft: Nft, sandbox: int) -> None:
    await Firewall().open(sandbox, [8080])
    first, *script = nft.reported.splitlines()
    assert first == f"-f - in {Path(f'/proc/{sandbox}/ns/net').readlink()}"
    assert script[0] == "add table inet tryitnow"
    assert "flush chain inet tryitnow input" in script, "what was there before is gone"


@pytest.mark.parametrize(
    ("chain", "expected"),
    [("tcp dport { 8080 } accept", True), ("policy drop", False)],
    ids=["open", "closed"],
)
async def test_it_knows_whether_it_is_open(
    nft: Nft, sandbox: int, chain: str, *, expected: bool
) -> None:
    nft.does(f"echo '{chain}'")
    assert await Firewall().is_open(sandbox) is expected


async def test_one_that_nobody_has_set_up_is_not_open(nft: Nft, sandbox: int) -> None:
    nft.does("echo 'Error: No such file or directory' >&2; exit 1")
    assert not await Firewall().is_open(sandbox)


async def test_what_nft_says_is_reported(nft: Nft, sandbox: int) -> None:
    nft.does("echo 'Operation not supported' >&2; exit 1")
    with pytest.raises(FirewallError, match="Operation not supported; is nftables installed"):
        await Firewall().close(sandbox)
    with pytest.raises(FirewallError, match="Operation not supported"):
        await Firewall().is_open(sandbox)


@pytest.mark.parametrize("pid", [os.getpid(), os.getppid()], ids=["ours", "another"])
async def test_the_nodes_own_network_is_never_closed(nft: Nft, pid: int) -> None:
    """A process that ended, whose number another process of the node has by now."""
    with pytest.raises(FirewallError, match="in no sandbox any more"):
        await Firewall().close(pid)
    with pytest.raises(FirewallError):
        await Firewall().open(pid, [80])
    with pytest.raises(FirewallError):
        await Firewall().is_open(pid)
    assert not nft.was_called


async def test_a_sandbox_that_is_gone_is_reported_to_be(nft: Nft) -> None:
    with pytest.raises(FirewallError, match=f"process {GONE} is gone"):
        await Firewall().close(GONE)
    assert not nft.was_called


async def test_a_cancelled_call_ends_its_program(nft: Nft, sandbox: int) -> None:
    nft.does(f"echo $$ > {nft.directory}/told; exec sleep 60")
    task = asyncio.create_task(Firewall().close(sandbox))
    async with asyncio.timeout(5):
        while True:
            if nft.was_called and nft.reported:
                break
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not Path(f"/proc/{nft.reported.strip()}").exists()
