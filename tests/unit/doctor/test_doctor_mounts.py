"""Mounts, SELinux and processors: files as kernels write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tryitnow.api.archive import Versions
from tryitnow.api.processor import RELEVANT
from tryitnow.doctor.cpu import cpu_features
from tryitnow.doctor.host import Host
from tryitnow.doctor.mounts import Mount, examine_mounts, mount_of

IN_A_POD = r"""1200 1100 0:300 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b
1201 1200 0:301 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
1210 1200 0:26 /try-it-now/libpod /run/libpod rw,nosuid,nodev - tmpfs tmpfs rw,size=4936820k
1211 1200 254:1 /lib/try-it-now /var/lib/try-it-now rw,relatime master:1 - ext4 /dev/vda1 rw,discard
1212 1200 0:90 / /mnt/with\040space rw - nfs4 192.0.2.9:/export rw,vers=4.2
"""
FEDORA = """26 1 252:3 / / rw,relatime shared:1 - xfs /dev/vda3 rw,seclabel,attr2,inode64,noquota
40 26 0:24 / /run rw,nosuid,nodev shared:13 - tmpfs tmpfs rw,seclabel,size=803276k,mode=755
55 26 0:50 / /var/lib/try-it-now rw - nfs4 192.0.2.9:/demos rw,context=system_u:object_r:nfs_t:s0
56 26 252:4 / /var/lib/try-it-now rw - xfs /dev/vdb rw,seclabel
"""

XEON = (
    "fpu vme de pse fxsr sse sse2 ht syscall nx lm sse4_1 sse4_2 movbe xsave avx f16c fma bmi1 "
    "avx2 bmi2 erms rtm avx512f avx512dq xsaveopt xsavec xsaves pku amx_tile"
)


def cpuinfo(*flags: str) -> str:
    return "\n".join(
        f"processor\t: {number}\nvendor_id\t: GenuineIntel\nflags\t\t: {each}\n"
        "vmx flags\t: vnmi avx mpx\nbugs\t\t: spectre_v1\n"
        for number, each in enumerate(flags)
    )


@pytest.mark.parametrize(
    ("mountinfo", "path", "type_"),
    [
        (IN_A_POD, "/run", "overlay"),
        (IN_A_POD, "/run/libpod/lock", "tmpfs"),
        (IN_A_POD, "/run/libpodder", "overlay"),
        (IN_A_POD, "/var/lib/try-it-now/volumes", "ext4"),
        (IN_A_POD, "/mnt/with space/x", "nfs4"),
        (FEDORA, "/run", "tmpfs"),
        (FEDORA, "/srv", "xfs"),
    ],
)
def test_a_path_is_on_the_deepest_mount_above_it(mountinfo: str, path: str, type_: str) -> None:
    found = mount_of(mountinfo, Path(path))
    assert found is not None
    assert found.type == type_


def test_the_last_of_two_mounts_on_one_place_is_seen() -> None:
    assert mount_of(FEDORA, Path("/var/lib/try-it-now/data")) == Mount("xfs", has_labels=True)


def test_what_is_mounted_with_one_label_for_all_files_has_none_of_their_own() -> None:
    found = mount_of(FEDORA.rpartition("56 ")[0], Path("/var/lib/try-it-now"))
    assert found == Mount("nfs4", has_labels=False)


@pytest.mark.parametrize("text", ["", "\n", "no mountinfo at all\n"])
def test_mounts_that_cannot_be_read_are_unknown(text: str) -> None:
    assert mount_of(text, Path("/run")) is None


@pytest.mark.parametrize(
    ("inside", "outside", "enforcing"),
    [("1", None, True), ("0", None, False), (None, "1", True), (None, "0", False),
     (None, None, None)],
)  # fmt: skip
def test_selinux_is_found_on_the_node_where_a_pod_has_none(
    tmp_path: Path, inside: str | None, outside: str | None, enforcing: bool | None,  # noqa: FBT001
) -> None:  # fmt: skip
    for root, text in ((tmp_path, inside), (tmp_path / "node", outside)):
        (root / "sys/fs/selinux").mkdir(parents=True)
        if text is not None:
            (root / "sys/fs/selinux/enforce").write_text(text)
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/mountinfo").write_text(IN_A_POD)
    host = Host(root=tmp_path, pid=77, proc=tmp_path / "proc", node_root=tmp_path / "node")
    found = examine_mounts(host, Path("/var/lib/try-it-now"))
    assert found.selinux_enforcing is enforcing
    assert found.run is not None
    assert found.data is not None
    assert (found.run.type, found.data.type) == ("overlay", "ext4")


def test_the_processors_features_that_matter_are_sorted() -> None:
    assert cpu_features(cpuinfo(XEON, XEON)) == (
        "amx_tile", "avx", "avx2", "avx512dq", "avx512f", "bmi1", "bmi2", "erms", "f16c", "fma",
        "fxsr", "movbe", "pku", "rtm", "sse4_2", "xsave", "xsavec", "xsaveopt", "xsaves",
    )  # fmt: skip


def test_only_what_all_processors_have_counts() -> None:
    assert cpu_features(cpuinfo("fpu xsave avx avx512f", "fpu xsave avx")) == ("avx", "xsave")


def test_arm_calls_them_otherwise() -> None:
    text = "processor\t: 0\nFeatures\t: fp asimd aes atomics paca pacg sve bti\nCPU part\t: 0xd40\n"
    assert cpu_features(text) == ("atomics", "bti", "paca", "pacg", "sve")


def test_a_processor_that_tells_nothing_has_no_features() -> None:
    assert cpu_features("") == ()


def test_all_features_fit_into_a_resource() -> None:
    Versions(cpu_features=tuple(sorted(RELEVANT)))
