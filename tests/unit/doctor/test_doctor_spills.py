"""Memory of demos is on a disk where nobody knows of it: doctor says where, and how to end that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.doctor.conftest import Node
from tryitnow.api.nodeagent import Verdict
from tryitnow.doctor.host import Host
from tryitnow.doctor.report import exit_status
from tryitnow.doctor.spills import SpillFacts, examine_spills

TITLES = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
LIMITS = (
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max core file size        {}                    unlimited            bytes     \n"
)


def host(root: Path, **files: str) -> Host:
    """A node with these files in /proc."""
    (root / "proc/sys/kernel").mkdir(parents=True)
    (root / "proc/4321").mkdir()
    for name, text in files.items():
        (root / "proc" / name.replace("__", "/")).write_text(text)
    return Host(root=root, pid=4321, proc=root / "proc")


def test_what_the_kernel_says_is_read(tmp_path: Path) -> None:
    swaps = f"{TITLES}/dev/zram0 partition 8 0 100\n/swap.img file 4194300 512 -2\n"
    found = examine_spills(host(tmp_path, swaps=swaps, sys__kernel__core_pattern="core.%p\n"))
    assert found == SpillFacts(swaps=("/swap.img",), core_pattern="core.%p", dumps_cores=False)


@pytest.mark.parametrize(("limit", "dumps"), [("0", False), ("unlimited", True), ("1024", True)])
def test_the_limit_is_that_of_podmans_service(tmp_path: Path, limit: str, dumps: bool) -> None:  # noqa: FBT001
    (tmp_path / "proc").mkdir()
    assert examine_spills(host(tmp_path / "proc", swaps=TITLES)).swaps == ()
    made = host(tmp_path / "node")
    (tmp_path / "node/proc/4321/limits").write_text(LIMITS.format(limit))
    assert examine_spills(made).dumps_cores is dumps


def test_a_node_with_swap_writes_memory_of_demos_to_its_disk(node: Node) -> None:
    check = node.with_spills(swaps=("/dev/sda2", "/swap.img")).check("swap")
    assert check.verdict is Verdict.WARN
    assert "/dev/sda2, /swap.img" in check.found
    assert "swapoff" in check.remedy
    assert node.check("swap").verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("pattern", "dumps", "verdict"),
    [
        ("core", False, Verdict.PASS),
        ("core", True, Verdict.WARN),
        ("", True, Verdict.PASS),
        ("|/bin/false", True, Verdict.PASS),
        # core(5): no limit holds for a pipe.
        ("|/usr/lib/systemd/systemd-coredump %P %u", False, Verdict.WARN),
    ],
)
def test_the_memory_of_a_process_that_crashed_is_kept_by_nobody(
    node: Node,
    pattern: str,
    dumps: bool,  # noqa: FBT001
    verdict: Verdict,
) -> None:
    check = node.with_spills(core_pattern=pattern, dumps_cores=dumps).check("core dumps")
    assert check.verdict is verdict
    if verdict is Verdict.WARN:
        assert pattern.removeprefix("|").split()[0] in check.found
        assert "sysctl -w kernel.core_pattern='|/bin/false'" in check.remedy


def test_such_a_node_can_restore_demos_all_the_same(node: Node) -> None:
    assert exit_status(node.with_spills(swaps=("/dev/sda2",)).checks) == 0
