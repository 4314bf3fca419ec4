"""What a node must have: each verdict from made-up facts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.doctor.conftest import Missing, Node
from tryitnow.api.nodeagent import Verdict
from tryitnow.doctor.checks import CheckName
from tryitnow.doctor.host import CommandResult
from tryitnow.doctor.mounts import Mount
from tryitnow.doctor.report import can_take
from tryitnow.doctor.version import parse_version, version_in

PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL


def test_a_node_with_all_it_needs_passes_every_check(node: Node) -> None:
    assert {check.verdict for check in node.checks} == {PASS}
    assert all(check.remedy == "" for check in node.checks)


def test_every_name_is_there_once(node: Node) -> None:
    names = [check.name for check in node.checks]
    assert len(names) == len(set(names)) == len(CheckName)


def test_whatever_does_not_pass_comes_with_a_remedy(node: Node, missing: Missing) -> None:
    worst = node.without_podman().but(
        criu=missing("criu"), iptables=missing("iptables-restore"), cgroup_v1=("cpu",),
        criu_enabled=False, user=1000,
    ).with_directory(mode=0o755).with_disk(free_bytes=0, free_inodes=0)  # fmt: skip
    assert all(check.remedy for check in worst.checks if check.verdict is not PASS)


# -- the ground: Linux, root, Podman ---------------------------------------------------------------


def test_another_system_than_linux_gets_one_answer_and_not_twelve(node: Node) -> None:
    (only,) = node.but(system="Darwin").checks
    assert (only.verdict, only.found) == (FAIL, "this is Darwin")
    assert "run it on a node" in only.remedy


def test_a_user_other_than_root_is_reported_to_become_root(node: Node) -> None:
    check = node.but(user=1000).check("root")
    assert check.verdict is FAIL
    assert "1000" in check.found
    assert "sudo tryitnow doctor" in check.remedy


def test_without_root_criu_check_is_not_blamed_for_it(node: Node) -> None:
    refused = CommandResult(1, "You need to have CAP_SYS_ADMIN")
    assert not node.but(user=1000, criu_check=refused).has_check("criu check")


def test_without_root_a_directory_that_may_not_be_seen_is_not_blamed_for_it(node: Node) -> None:
    unseen = node.with_directory(exists=False, problem="Permission denied")
    assert not unseen.but(user=1000).has_check("checkpoint path")
    assert unseen.check("checkpoint path").verdict is FAIL


def test_podman_that_does_not_answer_fails_with_where_to_check(node: Node) -> None:
    check = node.without_podman().check("Podman")
    assert check.verdict is FAIL
    assert check.found == "there is no socket at /run/podman/podman.sock"
    assert "logs POD podman" in check.remedy
    assert "systemctl enable --now podman.socket" in check.remedy


@pytest.mark.parametrize(
    ("distribution", "command"),
    [
        (("debian",), "apt-get install -y podman crun"),
        (("ubuntu", "debian"), "apt-get install -y podman crun"),
        (("rhel", "fedora"), "dnf install -y podman crun"),
    ],
)
def test_podman_that_is_not_installed_fails_with_the_distributions_command(
    node: Node, missing: Missing, distribution: tuple[str, ...], command: str
) -> None:
    bare = node.without_podman().but(podman_command=missing("podman"), distribution=distribution)
    assert bare.check("Podman").remedy == f"`{command}`"


def test_an_unknown_distribution_is_reported_both_ways(node: Node, missing: Missing) -> None:
    remedy = node.but(criu=missing("criu"), distribution=("nixos",)).check("CRIU").remedy
    assert "apt-get install" in remedy
    assert "dnf install" in remedy


def test_without_podman_its_runtime_and_storage_are_not_judged(node: Node) -> None:
    assert not node.without_podman().has_check("OCI runtime")
    assert not node.without_podman().has_check("storage driver")


def test_rootless_podman_fails(node: Node) -> None:
    check = node.with_podman(rootless=True).check("Podman")
    assert check.verdict is FAIL
    assert "rootless" in check.found


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("3.4.4", FAIL), ("", FAIL), ("unknown", FAIL),
        ("4.0.0", WARN), ("5.4.2", WARN),
        ("5.7.0", PASS), ("5.8.6-rc1", PASS), ("6.0.0-dev", PASS), ("10.0.0", PASS),
    ],
)  # fmt: skip
def test_podman_4_is_needed_and_5_7_closes_connections(
    node: Node, version: str, verdict: Verdict
) -> None:
    assert node.with_podman(version=version).check("Podman").verdict is verdict


def test_vfs_works_and_is_slow(node: Node) -> None:
    check = node.with_podman(storage_driver="vfs").check("storage driver")
    assert check.verdict is WARN
    assert "copies the whole image" in check.found


# -- the runtime -----------------------------------------------------------------------------------


def test_crun_without_criu_fails(node: Node) -> None:
    check = node.with_podman(runtime_version="crun version 1.8\n+SYSTEMD").check("OCI runtime")
    assert check.verdict is FAIL
    assert "+CRIU" in check.found


def test_crun_without_the_library_that_it_loads_fails_although_it_says_criu(node: Node) -> None:
    check = node.but(libcriu=False).check("OCI runtime")
    assert check.verdict is FAIL
    assert check.remedy == "`apt-get install -y libcriu2`"


def test_runc_needs_neither_the_mark_nor_the_library(node: Node) -> None:
    runc = node.with_podman(runtime_name="runc", runtime_version="runc version 1.3.0")
    check = runc.but(libcriu=False).check("OCI runtime")
    assert (check.verdict, check.found) == (PASS, "runc 1.3.0")


def test_a_runtime_without_the_checkpoint_command_fails(node: Node) -> None:
    runc = node.with_podman(runtime_name="runc", runtime_version="runc version 1.3.0")
    check = runc.but(runtime_checkpoint=CommandResult(1, "No help topic")).check("OCI runtime")
    assert check.verdict is FAIL
    assert "No help topic" in check.found


def test_another_runtime_fails_and_names_those_that_can(node: Node) -> None:
    check = node.with_podman(runtime_name="kata").check("OCI runtime")
    assert check.verdict is FAIL
    assert "crun and runc" in check.found


# -- CRIU ------------------------------------------------------------------------------------------


def test_criu_that_was_switched_off_says_so(node: Node) -> None:
    check = node.but(criu_enabled=False).check("CRIU_ENABLED")
    assert check.verdict is FAIL
    assert "switched off on purpose" in check.found


def test_missing_criu_fails_once(node: Node, missing: Missing) -> None:
    bare = node.but(criu=missing("criu"), criu_check=missing("criu"))
    check = bare.check("CRIU")
    assert (check.verdict, check.found) == (FAIL, "criu is not installed")
    assert check.remedy == "`apt-get install -y criu libcriu2`"
    assert not bare.has_check("criu check")


@pytest.mark.parametrize(
    ("version", "kernel", "verdict"),
    [
        ("Version: 3.10", "5.10.0", FAIL),
        ("no number", "5.10.0", FAIL),
        ("Version: 3.11", "5.10.0", PASS),
        ("Version: 3.17.1\nGitID: v3.17.1", "6.1.0-49-amd64", PASS),
        ("Version: 3.17.1", "6.18.44", WARN),
        ("Version: 4.1.1", "6.16.0-rc1", WARN),
        ("Version: 4.2", "6.18.44", PASS),
        ("Version: 4.2.1", "7.0", PASS),
    ],
)
def test_criu_must_be_3_11_and_fit_the_kernel(
    node: Node, version: str, kernel: str, verdict: Verdict
) -> None:
    assert node.but(criu=CommandResult(0, version), kernel=kernel).check("CRIU").verdict is verdict


@pytest.mark.parametrize(
    ("kernel", "verdict"),
    [
        ("6.12.48+deb13-amd64", PASS),
        ("6.13.0", WARN),
        ("6.14.0-33-generic", WARN),
        ("6.15.11-200.fc42.x86_64", WARN),
        ("6.16.0", PASS),
        ("7.2.12", PASS),
    ],
)
def test_kernels_that_hide_light_guard_pages_warn(
    node: Node, kernel: str, verdict: Verdict
) -> None:
    check = node.but(kernel=kernel).check("CRIU")
    assert check.verdict is verdict
    if verdict is WARN:
        assert f"Linux {version_in(kernel)} does not show CRIU the light guard pages" in check.found
        assert "a kernel from 6.16 on" in check.remedy


def test_a_cache_that_criu_cannot_keep_warns(node: Node) -> None:
    assert node.check("CRIU cache").verdict is PASS
    check = node.with_mounts(run=Mount("overlay", has_labels=False)).check("CRIU cache")
    assert check.verdict is WARN
    assert check.found.startswith("/run of Podman is on overlay: CRIU keeps there")
    assert "medium: Memory" in check.remedy
    assert not node.with_mounts(run=None).has_check("CRIU cache")


def test_a_failed_criu_check_shows_the_end_of_what_it_said_on_one_line(node: Node) -> None:
    output = "\n".join([f"Warn {n}" for n in range(30)] + ["Error (x): no", "Does not look good."])
    check = node.but(criu_check=CommandResult(1, output)).check("criu check")
    assert check.verdict is FAIL
    assert check.found == "Warn 28; Warn 29; Error (x): no; Does not look good."


def test_a_criu_check_without_a_word_still_shows_how_it_ended(node: Node) -> None:
    assert node.but(criu_check=CommandResult(-11, "")).check("criu check").found == (
        "ended with status -11"
    )


def test_the_missing_network_lock_is_a_warning(node: Node, missing: Missing) -> None:
    check = node.but(iptables=missing("iptables-restore")).check("network lock")
    assert check.verdict is WARN
    assert check.remedy == "`apt-get install -y iptables`"


def test_what_our_own_image_lacks_is_not_installed_on_the_node(
    node: Node, missing: Missing
) -> None:
    check = node.but(is_our_image=True, iptables=missing("iptables-restore")).check("network lock")
    assert check.remedy.startswith("use a newer image of try-it-now")


# -- pods and limits -------------------------------------------------------------------------------


def test_limits_that_cannot_hold_are_named(node: Node) -> None:
    assert node.check("resource limits").verdict is Verdict.PASS
    check = node.but(controllers=frozenset({"cpu"})).check("resource limits")
    assert check.verdict is Verdict.WARN
    assert "no controller for memory, pids" in check.found
    assert "containers with these limits do not start" in check.found


def test_where_no_container_could_have_its_limits_no_demo_is_taken(node: Node) -> None:
    wanted = replace(node.facts.wanted, limits=frozenset({"memory"}))
    lacking = node.but(controllers=frozenset({"cpu", "pids"}), wanted=wanted)
    check = lacking.check("resource limits")
    assert check.verdict is Verdict.FAIL
    assert "agent.allowUnenforcedLimits" in check.remedy
    taken, why = can_take([check])
    assert not taken
    assert "no controller for memory" in why
    allowed = lacking.but(wanted=replace(wanted, unenforced_limits=True)).check("resource limits")
    assert allowed.verdict is Verdict.WARN


def test_without_nft_no_pod_has_a_firewall(node: Node, missing: Missing) -> None:
    check = node.but(nft=missing("nft")).check("firewall")
    assert check.verdict is Verdict.WARN
    assert "apt-get install -y nftables" in check.remedy


# -- SELinux ---------------------------------------------------------------------------------------


def test_selinux_that_refuses_nothing_passes(node: Node) -> None:
    assert node.check("SELinux").found == "off"
    assert node.with_mounts(selinux_enforcing=False).check("SELinux").found == "permissive"


def test_selinux_that_enforces_passes_with_what_is_done_about_it(node: Node) -> None:
    enforcing = node.with_mounts(selinux_enforcing=True, data=Mount("xfs", has_labels=True))
    labelled = enforcing.with_podman(selinux=True).check("SELinux")
    assert labelled.verdict is PASS
    assert "volumes of demos are relabelled" in labelled.found
    sidecar = enforcing.with_podman(selinux=False).check("SELinux")
    assert sidecar.verdict is PASS
    assert "does not label its containers" in sidecar.found


def test_selinux_that_enforces_on_files_without_labels_warns(node: Node) -> None:
    nfs = node.with_mounts(selinux_enforcing=True, data=Mount("nfs4", has_labels=False))
    check = nfs.with_podman(selinux=True).check("SELinux")
    assert check.verdict is WARN
    assert check.found.startswith("enforcing, and /var/lib/try-it-now is on nfs4 without labels")
    assert "agent.hostDirectory" in check.remedy
    assert not nfs.without_podman().has_check("SELinux")


# -- cgroups ---------------------------------------------------------------------------------------


def test_v1_hierarchies_beside_v2_warn_with_what_to_do(node: Node) -> None:
    check = node.but(cgroup_v1=("cpu", "pids")).check("cgroups")
    assert check.verdict is WARN
    assert "cpu, pids" in check.found
    assert "echo manage-cgroups=ignore >> /etc/criu/crun.conf" in check.remedy


def test_where_criu_leaves_cgroups_alone_the_cost_is_reported(node: Node) -> None:
    mixed = node.but(cgroup_v1=("cpu",), criu_config="manage-cgroups=ignore\n")
    assert "20 ms each" in mixed.check("cgroups").found
    assert "echo" not in mixed.check("cgroups").remedy


def test_v1_alone_warns(node: Node) -> None:
    check = node.but(cgroup_v2=False, cgroup_v1=("cpu",)).check("cgroups")
    assert check.verdict is WARN
    assert check.found.startswith("v1 (cpu)")


# -- the checkpoint directory ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o704, 0o711])
def test_a_directory_open_to_others_fails_with_the_chmod_to_run(node: Node, mode: int) -> None:
    check = node.with_directory(mode=mode).check("checkpoint path")
    assert check.verdict is FAIL
    assert "secrets" in check.found
    assert check.remedy == "`chmod 0700 /var/lib/try-it-now/checkpoints`"


def test_a_directory_of_another_user_fails_with_the_chown_to_run(node: Node) -> None:
    check = node.with_directory(owner=1000).check("checkpoint path")
    assert check.remedy == "`chown root:root /var/lib/try-it-now/checkpoints`"


def test_both_are_fixed_owner_first(node: Node) -> None:
    check = node.with_directory(owner=1000, mode=0o777).check("checkpoint path")
    path = "/var/lib/try-it-now/checkpoints"
    assert check.remedy == f"`chown root:root {path}`, then `chmod 0700 {path}`"


def test_a_directory_that_the_agent_will_make_passes(node: Node) -> None:
    check = node.with_directory(exists=False, is_directory=False).check("checkpoint path")
    assert check.verdict is PASS


def test_a_directory_that_cannot_be_made_fails(node: Node) -> None:
    absent = node.with_directory(exists=False, is_directory=False, writable=False)
    assert absent.check("checkpoint path").verdict is FAIL
    assert "install -d -m 0700" in absent.check("checkpoint path").remedy


def test_a_file_in_its_place_a_read_only_disk_and_an_unreadable_parent_fail(node: Node) -> None:
    for change in ({"is_directory": False}, {"writable": False}, {"problem": "Not permitted"}):
        assert node.with_directory(**change).check("checkpoint path").verdict is FAIL


# -- versions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version", "numbers"),
    [
        ("3.17.1", "3.17.1", (3, 17, 1)),
        ("Version: 4.2.1", "4.2.1", (4, 2, 1)),
        ("5.8.6-rc1", "5.8.6", (5, 8, 6)),
        ("crun version 1.28\ncommit: 5", "1.28", (1, 28)),
        ("6.18.44-fc-v657", "6.18.44", (6, 18, 44)),
        ("unknown", "", ()),
        ("", "", ()),
    ],
)
def test_versions_are_read_from_what_programs_print(
    text: str, version: str, numbers: tuple[int, ...]
) -> None:
    assert version_in(text) == version
    assert parse_version(text) == numbers
