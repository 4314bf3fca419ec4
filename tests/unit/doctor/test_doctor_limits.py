"""Limits of the node against the demos that it is to hold: each verdict from made-up facts."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest

from tests.unit.doctor.conftest import GIB, Node
from tryitnow.api.nodeagent import Verdict
from tryitnow.doctor.checks import CheckName
from tryitnow.doctor.kernel import Group, Usage
from tryitnow.doctor.limits import AIO_EVENTS, INOTIFY_INSTANCES, LOCKS, TASKS
from tryitnow.doctor.report import can_run, can_take, criu_available, exit_status

PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL


# -- disk and memory -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "verdict"),
    [
        (0, FAIL), (2 * GIB - 1, FAIL), (2 * GIB, WARN), (10 * GIB - 1, WARN), (10 * GIB, PASS),
    ],
)  # fmt: skip
def test_free_space_is_measured_against_the_reserve(
    node: Node, free: int, verdict: Verdict
) -> None:
    assert node.with_disk(free_bytes=free).check("free space").verdict is verdict
    assert node.with_storage(free_bytes=free).check("storage space").verdict is verdict


def test_below_the_reserve_a_node_takes_nothing_and_says_what_to_do(node: Node) -> None:
    full = node.with_disk(free_bytes=GIB)
    check = full.check("free space")
    assert check.found == (
        "1.0 GiB for /var/lib/try-it-now/checkpoints; below the 2.0 GiB of DISK_RESERVE the node "
        "takes nothing"
    )
    assert "delete unused Checkpoints" in check.remedy
    assert can_take(full.checks)[0] is False
    assert "free space: 1.0 GiB" in can_take(full.checks)[1]
    assert exit_status(full.checks) == 2


def test_another_reserve_moves_the_threshold(node: Node) -> None:
    node = node.with_disk(free_bytes=5 * GIB)
    assert node.wanting(disk_reserve_bytes=6 * GIB).check("free space").verdict is FAIL
    assert node.wanting(disk_reserve_bytes=0).check("free space").verdict is WARN
    assert node.wanting(disk_reserve_bytes=0).with_disk(free_bytes=0).check(
        "free space"
    ).verdict is FAIL  # fmt: skip


def test_a_disk_that_cannot_be_checked_fails(node: Node) -> None:
    assert node.but(disk=None).check("free space").verdict is FAIL


def test_one_file_system_for_both_is_one_line(node: Node) -> None:
    assert not node.with_storage(device=1, free_bytes=0).has_check("storage space")
    assert not node.but(storage=None).has_check("storage space")


def test_full_storage_of_podman_names_its_own_way_out(node: Node) -> None:
    check = node.with_storage(free_bytes=GIB).check("storage space")
    assert "/var/lib/containers/storage" in check.found
    assert "podman image prune" in check.remedy


@pytest.mark.parametrize(
    ("free", "verdict"),
    [(0, FAIL), (9_999, FAIL), (10_000, WARN), (131_071, WARN), (131_072, PASS)],
)  # fmt: skip
def test_inodes_are_measured_against_the_reserve_too(
    node: Node, free: int, verdict: Verdict
) -> None:
    assert node.with_disk(free_inodes=free).check("inodes").verdict is verdict
    check = node.with_storage(free_inodes=free).check("inodes")
    assert check.verdict is verdict
    assert "storage" in check.found or verdict is PASS


def test_a_file_system_without_a_number_of_inodes_has_enough(node: Node) -> None:
    free = node.with_disk(free_inodes=None)
    assert free.check("inodes").found.endswith("/var/lib/containers/storage")
    assert free.with_storage(free_inodes=None).check("inodes").verdict is PASS


def test_memory_below_its_reserve_warns_as_full_nodes_have_it_so(node: Node) -> None:
    full = node.with_limits(memory=Usage(64 * GIB, 64 * GIB - GIB // 4))
    check = full.check("memory")
    assert check.verdict is WARN
    assert check.found == (
        "0.2 GiB of 64.0 GiB available; below the 0.5 GiB of MEMORY_RESERVE_MIB the node takes "
        "nothing"
    )
    assert exit_status(full.checks) == 0


def test_memory_that_holds_fewer_demos_than_wanted_warns_with_how_many(node: Node) -> None:
    check = node.with_limits(memory=Usage(4 * GIB, GIB)).check("memory")
    assert check.verdict is WARN
    assert "it holds 56 of 110 small demos" in check.found
    assert "agent.maxInstances" in check.remedy


# -- the kernel ------------------------------------------------------------------------------------


def test_processes_of_a_small_pid_max_hold_fewer_demos(node: Node) -> None:
    check = node.with_limits(tasks=Usage(8192, 900)).check("processes")
    assert check.verdict is WARN
    assert check.found == "900 of 8192 processes and threads: it holds 48 of 110 demos"
    assert "`sysctl -w kernel.pid_max=16384 kernel.threads-max=16384`" in check.remedy
    assert "on the node itself" in check.remedy
    assert "/etc/sysctl.d" in check.remedy


def test_no_process_left_fails(node: Node) -> None:
    full = node.with_limits(tasks=Usage(32768, 32768 - TASKS + 1))
    assert full.check("processes").verdict is FAIL
    assert exit_status(full.checks) == 2


def test_more_processes_than_linux_can_have_are_not_asked_for(node: Node) -> None:
    check = node.wanting(demos=10000).with_limits(tasks=Usage(32768, 1)).check("processes")
    assert "kernel.pid_max=2097152" in check.remedy
    check = node.wanting(demos=100_000).with_limits(tasks=Usage(32768, 1)).check("processes")
    assert "kernel.pid_max=4194304" in check.remedy


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("/libpod_parent", "`echo max > /sys/fs/cgroup/libpod_parent/pids.max`"),
        ("/machine.slice", "`systemctl set-property machine.slice TasksMax=infinity`"),
    ],
)
def test_the_cgroup_of_demos_can_hold_fewer(node: Node, path: str, remedy: str) -> None:
    group = Group(PurePosixPath(path), Usage(8192, 300), has_demos=True)
    check = node.with_limits(groups=(group,)).check("processes")
    assert check.verdict is WARN
    assert check.found == (
        f"300 of 8192 processes and threads in cgroup {path}: it holds 64 of 110 demos"
    )
    assert remedy in check.remedy


def test_the_cgroup_of_podman_holds_only_those_who_watch_demos(node: Node) -> None:
    usual = Group(PurePosixPath("/system.slice/podman.service"), Usage(4915, 11), has_demos=False)
    assert node.with_limits(groups=(usual,)).check("processes").verdict is PASS


def test_of_several_limits_of_processes_the_worst_is_reported(node: Node) -> None:
    full = Group(PurePosixPath("/libpod_parent"), Usage(1000, 990), has_demos=True)
    both = node.with_limits(tasks=Usage(8192, 900), groups=(full,))
    assert both.check("processes").verdict is FAIL
    assert "in cgroup /libpod_parent: none left" in both.check("processes").found


def test_a_node_that_allows_fewer_open_files_than_podman_cannot_restore_from_others(
    node: Node,
) -> None:
    check = node.with_limits(most_open_files=65_536).check("open files")
    assert check.verdict is WARN
    assert "at most 65536 for a process" in check.found
    assert "`sysctl -w fs.nr_open=1048576`" in check.remedy


@pytest.mark.parametrize(
    ("files", "of_one", "verdict", "found"),
    [
        (Usage(100_000, 99_000), 1_048_576, FAIL, "none left for another demo"),
        (Usage(100_000, 5_000), 1_048_576, WARN, "it holds 48 of 110 demos"),
        (Usage(2_466_170, 670), 20_000, WARN, "20000 for each process of a demo"),
        (Usage(2_466_170, 670), 524_288, PASS, "110 demos need 225280"),
        (Usage(2_466_170, 670), None, PASS, "110 demos need 225280"),
    ],
)
def test_open_files(
    node: Node, files: Usage, of_one: int | None, verdict: Verdict, found: str
) -> None:
    check = node.with_limits(files=files, open_files=of_one).check("open files")
    assert check.verdict is verdict
    assert found in check.found


def test_of_several_limits_of_open_files_the_worst_is_reported(node: Node) -> None:
    full = node.with_limits(files=Usage(1000, 1000), open_files=20_000, most_open_files=65_536)
    assert full.check("open files").verdict is FAIL
    assert "none left for another demo" in full.check("open files").found


def test_the_usual_inotify_limit_holds_few_demos(node: Node) -> None:
    check = node.with_limits(inotify_instances=128, inotify_watches=192_536).check("inotify")
    assert check.verdict is WARN
    assert "they hold 24 of 110 demos" in check.found
    assert check.remedy.startswith(
        "on the node itself `sysctl -w fs.inotify.max_user_instances=512`"
    ), "what is enough is not to be changed"


def test_few_inotify_watches_hold_few_demos(node: Node) -> None:
    check = node.with_limits(inotify_watches=8192).check("inotify")
    assert "they hold 32 of 110 demos" in check.found
    assert "`sysctl -w fs.inotify.max_user_watches=32768`" in check.remedy


def test_used_up_inotify_instances_are_reported_although_the_limit_looks_high(node: Node) -> None:
    used_up = node.with_limits(inotify_exhausted=True)
    check = used_up.check("inotify")
    assert check.verdict is WARN
    assert "no instance left" in check.found
    assert "fs.inotify.max_user_instances=2048" in check.remedy
    assert can_take(used_up.checks)[0], "containers start without one"


def test_the_usual_aio_limit_holds_few_databases(node: Node) -> None:
    check = node.with_limits(aio=Usage(65536, 0)).check("AIO")
    assert check.verdict is WARN
    assert check.found == "0 of 65536 events: it holds 24 of 110 demos with a MySQL"
    assert "`sysctl -w fs.aio-max-nr=524288`" in check.remedy


def test_used_up_aio_stops_databases_only(node: Node) -> None:
    used_up = node.with_limits(aio=Usage(1_048_576, 1_048_576 - AIO_EVENTS + 1))
    assert used_up.check("AIO").verdict is WARN
    assert "none left" in used_up.check("AIO").found
    assert can_take(used_up.checks)[0]


@pytest.mark.parametrize(
    ("conntrack", "verdict", "found"),
    [
        (Usage(262_144, 262_100), FAIL, "drops new ones"),
        (Usage(16_384, 5), WARN, "it holds 64 of 110 demos"),
        (Usage(262_144, 77), PASS, "110 demos need 28160"),
    ],
)
def test_conntrack(node: Node, conntrack: Usage, verdict: Verdict, found: str) -> None:
    check = node.with_limits(conntrack=conntrack).check("conntrack")
    assert check.verdict is verdict
    assert found in check.found
    assert verdict is PASS or "net.netfilter.nf_conntrack_max=" in check.remedy


def test_a_full_conntrack_table_is_to_be_made_larger_and_not_smaller(node: Node) -> None:
    check = node.with_limits(conntrack=Usage(262_144, 262_144)).check("conntrack")
    assert "net.netfilter.nf_conntrack_max=524288" in check.remedy


def test_limits_that_the_kernel_does_not_have_are_left_out(node: Node) -> None:
    without = node.with_limits(
        memory=None, tasks=None, files=None, inotify_instances=None, aio=None, conntrack=None,
        local_ports=None,
    )  # fmt: skip
    names = {"memory", "processes", "open files", "inotify", "AIO", "conntrack", "local ports"}
    assert not any(without.has_check(name) for name in names)


def test_a_node_for_few_demos_needs_little(node: Node) -> None:
    small = node.wanting(demos=20).with_limits(
        inotify_instances=128, inotify_watches=8192, aio=Usage(65536, 0), tasks=Usage(32768, 300)
    )
    assert {check.verdict for check in small.checks} == {PASS}
    assert INOTIFY_INSTANCES * 20 < 128


# -- Podman's locks --------------------------------------------------------------------------------


def test_locks_are_needed_by_demos_and_by_what_is_pre_created(node: Node) -> None:
    check = node.check("Podman locks")
    assert check.verdict is PASS
    assert check.found == (
        "2036 free beside 9 containers; 110 demos and what is pre-created for 3 archives need 488"
    )


def test_too_few_locks_warn_with_the_number_to_set(node: Node) -> None:
    check = node.wanting(demos=600).check("Podman locks")
    assert check.verdict is WARN
    assert "num_locks = 4096 under [engine]" in check.remedy
    assert "`podman system renumber`" in check.remedy


def test_no_lock_left_fails(node: Node) -> None:
    used_up = node.with_podman(free_locks=LOCKS - 1, containers=1500)
    assert used_up.check("Podman locks").verdict is FAIL
    assert exit_status(used_up.checks) == 2


def test_locks_that_podman_does_not_tell_are_not_judged(node: Node) -> None:
    assert not node.with_podman(free_locks=None).has_check("Podman locks")
    assert not node.without_podman().has_check("Podman locks")


# -- what follows ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": Usage(32768, 32768)},
        {"files": Usage(1000, 1000)},
        {"conntrack": Usage(1000, 1000)},
    ],
)
def test_a_limit_of_the_node_says_nothing_about_criu_or_podman(
    node: Node, change: dict[str, Any]
) -> None:
    full = node.with_limits(**change)
    assert can_run(full.checks)[0]
    assert criu_available(full.checks)[0]
    takes, why = can_take(full.checks)
    assert not takes
    assert "to fix it: on the node itself `sysctl -w" in why


def test_a_node_with_room_says_nothing(node: Node) -> None:
    assert can_take(node.checks) == (True, "")
    assert can_take(()) == (False, "the node has not been examined yet")


def test_the_order_is_that_of_the_names(node: Node) -> None:
    assert [check.name for check in node.checks] == list(CheckName)
