"""Reading the kernel's limits: the files as kernels write them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from tryitnow.doctor.host import Host
from tryitnow.doctor.kernel import Group, Usage, examine_kernel

FILES = {
    "proc/meminfo": (
        "MemTotal:       24684084 kB\nMemFree:        23333572 kB\nMemAvailable:   24010120 kB\n"
        "Buffers:           41060 kB\nHugePages_Total:       0\n"
    ),
    "proc/loadavg": "0.41 0.23 0.22 1/107 26104\n",
    "proc/sys/kernel/pid_max": "32768\n",
    "proc/sys/kernel/threads-max": "192730\n",
    "proc/sys/fs/file-nr": "670\t0\t2466170\n",
    "proc/sys/fs/inotify/max_user_instances": "128\n",
    "proc/sys/fs/inotify/max_user_watches": "192536\n",
    "proc/sys/fs/nr_open": "1048576\n",
    "proc/sys/fs/aio-max-nr": "65536\n",
    "proc/sys/fs/aio-nr": "2661\n",
    "proc/sys/net/netfilter/nf_conntrack_max": "262144\n",
    "proc/sys/net/netfilter/nf_conntrack_count": "12\n",
    "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
    "proc/sys/net/ipv4/ip_local_reserved_ports": "8080,20000-20999\n",
    "proc/4321/comm": "podman\n",
    "proc/4321/cgroup": "8:pids:/\n1:cpu:/\n0::/system.slice/podman.service\n",
    "sys/fs/cgroup/libpod_parent/pids.max": "max\n",
    "sys/fs/cgroup/libpod_parent/pids.current": "12\n",
    "sys/fs/cgroup/machine.slice/pids.max": "8192\n",
    "sys/fs/cgroup/machine.slice/pids.current": "300\n",
    "sys/fs/cgroup/system.slice/pids.max": "max\n",
    "sys/fs/cgroup/system.slice/pids.current": "90\n",
    "sys/fs/cgroup/system.slice/podman.service/pids.max": "4915\n",
    "sys/fs/cgroup/system.slice/podman.service/pids.current": "11\n",
    "proc/4321/limits": (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max cpu time              unlimited            unlimited            seconds   \n"
        "Max processes             96365                96365                processes \n"
        "Max open files            1024                 524288               files     \n"
        "Max locked memory         8388608              8388608              bytes     \n"
    ),
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A node whose kernel says what FILES says."""
    for name, text in FILES.items():
        write(tmp_path, name, text)
    return Host(root=tmp_path, pid=4321, proc=tmp_path / "proc")


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_all_limits_are_read(host: Host) -> None:
    found = examine_kernel(host)
    assert found.memory == Usage(24684084 << 10, (24684084 - 24010120) << 10)
    assert found.memory.left == 24010120 << 10
    assert found.tasks == Usage(32768, 107)
    assert found.files == Usage(2466170, 670)
    assert (found.open_files, found.most_open_files) == (524288, 1048576)
    assert (found.inotify_instances, found.inotify_watches) == (128, 192536)
    assert found.aio == Usage(65536, 2661)
    assert found.conntrack == Usage(262144, 12)
    assert found.local_ports == range(32768, 61000)
    assert found.reserved_ports == (range(8080, 8081), range(20000, 21000))


def test_groups_of_demos_and_of_podman_with_a_limit_are_read(host: Host) -> None:
    assert examine_kernel(host).groups == (
        Group(PurePosixPath("/machine.slice"), Usage(8192, 300), has_demos=True),
        Group(PurePosixPath("/system.slice/podman.service"), Usage(4915, 11), has_demos=False),
    )


def test_the_lower_of_two_limits_counts(host: Host, tmp_path: Path) -> None:
    write(tmp_path, "proc/sys/kernel/pid_max", "4194304\n")
    assert examine_kernel(host).tasks == Usage(192730, 107)


def test_a_kernel_without_these_files_has_no_such_limits(tmp_path: Path) -> None:
    found = examine_kernel(Host(root=tmp_path, proc=tmp_path / "proc"))
    assert {found.memory, found.tasks, found.files, found.aio, found.conntrack} == {None}
    assert {found.inotify_instances, found.local_ports, found.open_files} == {None}
    assert (found.reserved_ports, found.groups) == ((), ())


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_of_another_form_is_no_crash(host: Host, tmp_path: Path, name: str) -> None:
    for text in ("", "\n", "unlimited\n", "-1\t-1\n", "a: b c\n"):
        write(tmp_path, name, text)
        examine_kernel(host)


def test_limits_of_systemd_that_listens_for_podman_are_not_podmans(
    host: Host, tmp_path: Path
) -> None:
    write(tmp_path, "proc/4321/comm", "systemd\n")
    assert examine_kernel(host).open_files is None


def test_nothing_reserved_is_an_empty_line(host: Host, tmp_path: Path) -> None:
    write(tmp_path, "proc/sys/net/ipv4/ip_local_reserved_ports", "\n")
    assert examine_kernel(host).reserved_ports == ()


def test_this_machine_has_another_inotify_instance(host: Host) -> None:
    assert not examine_kernel(host).inotify_exhausted
