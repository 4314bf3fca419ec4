"""Which addresses are near, as the kernel tells it."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from tryitnow.agent.sandbox.nearby import Nearby

FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
     +-- 10.0.0.0/24 2 0 2
           |-- 10.0.0.0
              /24 link UNICAST
           |-- 10.0.0.5
              /32 host LOCAL
           |-- 10.0.0.255
              /32 link BROADCAST
Local:
           |-- 10.88.0.1
              /32 host LOCAL
"""

IF_INET6 = """fd120000000000000000000000000005 02 40 00 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
"""

ROUTE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100580A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0000580A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for process in ("self", "77"):
        (tmp_path / process / "net").mkdir(parents=True)
    (tmp_path / "self/net/fib_trie").write_text(FIB_TRIE)
    (tmp_path / "self/net/if_inet6").write_text(IF_INET6)
    (tmp_path / "77/net/route").write_text(ROUTE)
    return tmp_path


def test_the_addresses_of_the_node_the_api_server_and_metadata_are_near(proc: Path) -> None:
    near = Nearby("203.0.113.1", proc).of_node()
    for address in ("10.0.0.5", "10.88.0.1", "203.0.113.1", "169.254.169.254", "127.0.0.1"):
        assert any(ipaddress.ip_address(address) in each for each in near), address
    assert any(ipaddress.ip_address("fd12::5") in each for each in near)
    for address in ("10.0.0.6", "10.0.0.255", "fd12::6"):
        assert not any(ipaddress.ip_address(address) in each for each in near), address


def test_a_server_whose_name_nobody_knows_is_left_out(proc: Path) -> None:
    assert Nearby("server.invalid", proc).of_node() == Nearby(None, proc).of_node()


def test_the_neighbours_of_a_sandbox_are_near(proc: Path) -> None:
    assert Nearby(None, proc).of_sandbox(77) == {ipaddress.ip_network("10.88.0.0/16")}


def test_the_machines_own_kernel_is_understood() -> None:
    assert ipaddress.ip_network("127.0.0.1") in Nearby().of_node()


def test_a_sandbox_that_has_ended_is_told_of(proc: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Nearby(None, proc).of_sandbox(78)
