"""SELinux, cgroups, the firewall of demos, and who else may get at the memory of applications."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from tryitnow.api.nodeagent import Check
from tryitnow.doctor.facts import NodeFacts
from tryitnow.doctor.names import CheckName
from tryitnow.doctor.podman import PodmanFacts
from tryitnow.doctor.verdicts import failed, install, passed, sysctl, tail, warned

LIMITED_BY = frozenset({"cpu", "memory", "pids"})
"""The controllers behind the limits of a template, by the names of both."""

_OPEN_TO_OTHERS = 0o077

_DISCARDING = frozenset({"/bin/false", "/bin/true", "/usr/bin/false", "/usr/bin/true"})
_DISCARD = "'|/bin/false'"


def system(facts: NodeFacts) -> Iterator[Check]:
    """Judge the node as the software finds it."""
    if facts.mounts.selinux_enforcing is not True:
        state = "off" if facts.mounts.selinux_enforcing is None else "permissive"
        yield passed(CheckName.SELINUX, state)
    elif facts.podman is not None:
        yield _selinux(facts, facts.podman)
    yield _cgroups(facts)
    yield _limits(facts)
    yield _firewall(facts)
    if not (facts.directory.problem and facts.user != 0):
        yield _directory(facts)
    yield _swap(facts)
    yield _core_dumps(facts)


def _selinux(facts: NodeFacts, podman: PodmanFacts) -> Check:
    name, data = CheckName.SELINUX, facts.mounts.data
    if not podman.selinux:
        return passed(name, "enforcing; Podman does not label its containers, so they may all")
    if data is None or data.has_labels:
        return passed(name, "enforcing; volumes of demos are relabelled so that they may (z)")
    path = shlex.quote(str(facts.directory.path.parent))
    return warned(
        name,
        f"enforcing, and {path} is on {data.type} without labels for files: demos cannot read "
        "their volumes",
        "put it on a file system with labels, such as xfs or ext4 mounted without `context=` "
        "(`agent.hostDirectory`); or label = false under [containers] in containers.conf of "
        "Podman, after which SELinux does not guard demos from each other",
    )


def _cgroups(facts: NodeFacts) -> Check:
    if facts.cgroup_v2 and not facts.cgroup_v1:
        return passed(CheckName.CGROUPS, "v2")
    beside = f" ({', '.join(facts.cgroup_v1)})" if facts.cgroup_v1 else ""
    found = f"v2, but v1 hierarchies{beside} beside it" if facts.cgroup_v2 else f"v1{beside}"
    remedy = _cgroup_v2_only(facts)
    if "manage-cgroups=ignore" in facts.criu_config.replace(" ", ""):
        found += (
            ": CRIU leaves cgroups alone, so a restore puts only the first process into the "
            "container's; the agent moves the others, about 20 ms each"
        )
    else:
        runtime = facts.podman.runtime_name if facts.podman else "crun"
        found += ": CRIU often cannot put these back, and checkpoints or restores fail"
        remedy += (
            "; or have CRIU leave them alone: `mkdir -p /etc/criu && "
            f"echo manage-cgroups=ignore >> /etc/criu/{runtime}.conf`"
        )
    return warned(CheckName.CGROUPS, found, remedy)


def _limits(facts: NodeFacts) -> Check:
    missing = sorted(LIMITED_BY - facts.controllers)
    if not missing:
        return passed(CheckName.LIMITS, ", ".join(sorted(LIMITED_BY)))
    found = f"cgroup v2 has no controller for {', '.join(missing)} here: "
    remedy = _cgroup_v2_only(facts)
    if facts.wanted.unenforced_limits:
        found += "containers run without these limits, as agent.allowUnenforcedLimits allows"
        return warned(CheckName.LIMITS, found, remedy)
    remedy += (
        "; or ALLOW_UNENFORCED_LIMITS=true (`agent.allowUnenforcedLimits`), on nodes for tests"
    )
    if facts.wanted.limits.isdisjoint(missing):
        found += "containers with these limits do not start"
        return warned(CheckName.LIMITS, found, remedy)
    found += "no container starts, since each has these limits (`agent.containers.defaultLimits`)"
    return failed(CheckName.LIMITS, found, remedy)


def _firewall(facts: NodeFacts) -> Check:
    if facts.nft.ok:
        return passed(CheckName.FIREWALL, facts.nft.output.splitlines()[0])
    return warned(
        CheckName.FIREWALL,
        f"nft does not run ({tail(facts.nft)}): every sandbox has a firewall for what comes in and "
        "what goes out, and without nftables there is neither build nor demo",
        install(facts, debian="nftables", fedora="nftables"),
    )


def _cgroup_v2_only(facts: NodeFacts) -> str:
    options = "systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all"
    if "fedora" in facts.distribution:
        return f"`grubby --update-kernel=ALL --args='{options}' && reboot`"
    if "debian" in facts.distribution:
        return (
            f"add `{options}` to GRUB_CMDLINE_LINUX in /etc/default/grub, then "
            "`update-grub && reboot`"
        )
    return f"boot the kernel with `{options}`"


def _directory(facts: NodeFacts) -> Check:
    name, found = CheckName.DIRECTORY, facts.directory
    path = shlex.quote(str(found.path))
    if found.problem:
        return failed(name, f"{path}: {found.problem}", f"`ls -ld {path}`, as root")
    if not found.exists:
        if found.writable:
            return passed(name, f"{path} does not exist yet; the agent creates it")
        make = f"`install -d -m 0700 -o root -g root {path}`"
        return failed(name, f"{path} does not exist and cannot be created", make)
    if not found.is_directory:
        return failed(name, f"{path} is no directory", "set CHECKPOINT_PATH to a directory")
    fix = []
    if found.owner != 0:
        fix.append(f"`chown root:root {path}`")
    if found.mode & _OPEN_TO_OTHERS:
        fix.append(f"`chmod 0700 {path}`")
    if fix:
        return failed(
            name,
            f"{path} is {found.mode:04o} and user {found.owner}'s; archives hold the "
            "application's memory, secrets included, and must be root's alone",
            ", then ".join(fix),
        )
    if not found.writable:
        return failed(
            name, f"{path} cannot be written to", f"`touch {path}/x` shows the reason, as root"
        )
    return passed(name, f"{path}, {found.mode:04o}, root's")


def _swap(facts: NodeFacts) -> Check:
    swaps = facts.spills.swaps
    if not swaps:
        return passed(CheckName.SWAP, "off")
    return warned(
        CheckName.SWAP,
        f"{', '.join(swaps)}: the kernel writes memory of demos there, secrets included, and a "
        "demo that was swapped out answers late",
        "on the node itself `swapoff --all`, and no swap in /etc/fstab for the next boot; or "
        "encrypt it with a key of each boot (`swap` in crypttab(5))",
    )


def _core_dumps(facts: NodeFacts) -> Check:
    name, pattern = CheckName.CORE_DUMPS, facts.spills.core_pattern
    program = pattern.partition("|")[2].split()
    if not pattern or (program and program[0] in _DISCARDING):
        return passed(name, "discarded")
    remedy = sysctl({"kernel.core_pattern": _DISCARD})
    if program:
        return warned(
            name,
            f"{program[0]} gets the memory of each process of a demo that crashes, secrets "
            "included, and may keep it",
            f"{remedy}; or have that program keep none (systemd-coredump: Storage=none)",
        )
    if not facts.spills.dumps_cores:
        return passed(name, "off: Podman's limit for them is 0")
    return warned(
        name,
        "a process of a demo that crashes writes its memory, secrets included, to a file "
        f"({pattern})",
        remedy,
    )
